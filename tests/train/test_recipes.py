"""Every detector has a paper and a compact recipe that resolves, fits its network, and trains."""

import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from training_media import make_clip_pack, make_pack

from detectors.backbone import MobileNetV1
from detectors.registry import entry, names
from train.__main__ import main
from train.loop import EpochMetrics, train
from train.recipe import (
    RECIPES,
    Recipe,
    RecipeError,
    create_detector,
    data_module,
    data_settings,
    describe,
    load_backbone,
    load_recipe,
)

# Other tests register detectors of their own.
METHODS = [name for name in names() if entry(name).cls.__module__.startswith("detectors.methods.")]
COMPACT = [load_recipe(path.stem) for path in sorted(RECIPES.glob("*-compact.yaml"))]
KINDS = ("images", "faces", "clips")
TRAINED = [pytest.param(recipe, id=recipe.name) for recipe in COMPACT if recipe.data.kind in KINDS]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A pack for each kind of data."""
    folder = tmp_path_factory.mktemp("media")
    faces = make_pack(folder / "faces.npz", 10)
    return {"images": faces, "faces": faces, "clips": make_clip_pack(folder / "clips.npz", 6, 31)}


@pytest.mark.parametrize("name", METHODS)
def test_every_detector_has_both_recipes(name: str) -> None:
    for profile in ("paper", "compact"):
        recipe = load_recipe(f"{name}-{profile}")
        assert (recipe.name, recipe.detector, recipe.profile) == (f"{name}-{profile}", name, profile)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_resolves_down_to_the_config_of_its_detector(path: Path) -> None:
    recipe = load_recipe(path.stem)
    assert recipe.name == path.stem
    base = entry(recipe.detector).profiles[recipe.profile]
    type(base).model_validate({**base.model_dump(), **recipe.config})
    settings = data_settings(recipe)
    assert type(settings) is data_module(recipe.data.kind).Settings
    assert path.read_text().startswith("#"), "a recipe says what it is"


@pytest.mark.parametrize("recipe", TRAINED)
def test_every_compact_recipe_of_pictures_and_clips_trains(
    recipe: Recipe, media: dict[str, Path], tmp_path: Path
) -> None:
    """Two steps and a validation through the loop itself, on a portrait in many versions."""
    changes = ["epochs=1", "workers=0", "batch=2", "data.settings.held_out=0.4", "data.settings.validation_items=2"]
    changes += [f"data.settings.faces={media['faces']}"] if recipe.data.kind == "clips" else []
    changed = load_recipe(recipe.name, changes)
    torch.manual_seed(changed.seed)
    detector = create_detector(changed)
    splits = data_module(changed.data.kind).build(data_settings(changed), changed, detector, media[recipe.data.kind])
    four = torch.utils.data.Subset(splits.train, range(4))
    assert describe(changed, detector, splits)["samples"] == {"item": 2, "step": 4}
    splits.train = four  # type: ignore[assignment]
    seen: list[EpochMetrics] = []
    train(detector, splits, changed, tmp_path, on_epoch=seen.append)
    assert seen[0].step == 2 and math.isfinite(seen[0].train_loss) and math.isfinite(seen[0].val_loss)


def test_a_dry_run_tells_recipe_data_parameters_and_steps(
    media: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(media["images"])]
    recipe = load_recipe("triplet-compact", ["batch=2", "epochs=3", "data.settings.held_out=0.4"])
    detector = create_detector(recipe)
    splits = data_module("images").build(data_settings(recipe), recipe, detector, media["images"])
    told = describe(recipe, detector, splits)
    assert yaml.safe_load(yaml.safe_dump(told)) == told, "plain values"
    assert Recipe.model_validate(told["recipe"]) == recipe
    assert told["parameters"]["all"] == sum(p.numel() for p in detector.parameters())
    assert told["items"] == {"train": len(splits.train), "validation": len(splits.validation)}
    assert told["steps"] == {"epoch": len(splits.train) // 2, "run": 3 * (len(splits.train) // 2)}
    assert main(["triplet-compact", "batch=2", "epochs=3", "data.settings.held_out=0.4", *given, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert yaml.safe_dump(told, sort_keys=False) in out
    assert out.count("validation_sources") == out.count("held out") == 1, "the data is told once"
    assert told["config"]["backbone"] == "mobilenetv1" and told["data"]["families"]["sbi"] == 4


def test_the_dual_level_papers_imbalance_trains_by_the_command(
    media: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Few fakes among many real clips, some in every batch (specification sections 4.2 and 6)."""
    command = ["dual_level-compact", "--data", str(media["clips"]), "--out", str(tmp_path / "run"), "epochs=1"]
    command += ["batch=3", "workers=0", "data.settings.held_out=0.4", "data.settings.validation_items=2"]
    command += [f"data.settings.faces={media['faces']}"]
    assert main([*command, "sampling={singles: true, ratio: 4, minimum: 1}"]) == 0
    summary = json.loads((tmp_path / "run/data.json").read_text())["singles"]
    assert summary["fake"] == summary["real"] // 4 >= 1
    assert json.loads((tmp_path / "run/metrics.jsonl").read_text())["step"] == summary["real"] // 2
    assert f'"fake": {summary["fake"]}' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sampling.minimum=1"], "each item of data.kind images holds real and fake"),
        (["sampling.ratio=4"], "sampling: ratio leaves out fakes: it needs singles: true"),
        (["freeze=[{parts: [backbon], epochs: 1}]"], "freeze: xception has no part 'backbon': did you mean 'backbone'"),
        (["optimiser.groups={outpt: 2.0}"], "optimiser.groups: xception has no part 'outpt': did you mean 'output'"),
        (["optimiser.schedule=step"], "optimiser: schedule step needs every"),
        (["acumulate=2"], "did you mean 'accumulate'"),
    ],
)
def test_a_training_that_cannot_be_is_said_before_it_starts(
    arguments: list[str], message: str, media: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(media["images"]), "data.settings.held_out=0.4", "--dry-run"]
    assert main(["xception-compact", *given, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_missing_data_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for recipe in ("xception-compact", "dual_level-compact", "lrnet-compact"):
        assert main([recipe, "--data", str(tmp_path / "none"), "--out", str(tmp_path / "run")]) == 2
        assert f"there is no folder or file {tmp_path}/none" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_that_stops_early_says_so(
    media: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["mesonet-compact", "--data", str(media["faces"]), "--out", str(tmp_path / "run"), "epochs=9", "batch=2"]
    command += ["workers=0", "data.settings.held_out=0.4", "data.settings.validation_items=2", "optimiser.lr=1e-9"]
    assert main([*command, "patience=1", "watch=val_loss"]) == 0
    assert "stopped early (patience 1); best: epoch" in capsys.readouterr().out


def write(folder: Path, **recipes: str) -> Path:
    for name, text in recipes.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


BASE = "name: a\ndetector: mesonet\nconfig: {size: 64}\ndata: {kind: images, settings: {flip: 0.1, keep: 7}}\n"


def test_a_recipe_takes_from_its_parent_what_it_does_not_say(tmp_path: Path) -> None:
    write(
        tmp_path,
        a=BASE + "epochs: 3\nbatch: 4\noptimiser: {name: sgd, lr: 0.5}\n",
        b="extends: a\nname: b\noptimiser: {lr: 0.25}\ndata: {settings: {flip: 0.9}}\n",
        c="extends: b.yaml\nname: c\nepochs: 9\n",
    )
    b, c = load_recipe(tmp_path / "b.yaml"), load_recipe(tmp_path / "c.yaml", ["batch=5"])
    assert (b.name, b.epochs, b.optimiser.name, b.optimiser.lr) == ("b", 3, "sgd", 0.25)
    assert b.data.settings == {"flip": 0.9, "keep": 7} and b.config == {"size": 64}
    assert (c.name, c.epochs, c.batch, c.optimiser.lr) == ("c", 9, 5, 0.25)


def test_another_detector_or_kind_of_data_does_not_inherit_what_was_meant_for_the_first(tmp_path: Path) -> None:
    write(
        tmp_path,
        a=BASE + "epochs: 3\nbatch: 4\nbackbone: x.safetensors\n",
        b="extends: a\nname: b\ndetector: c3d\ndata: {kind: clips}\n",
    )
    recipe = load_recipe(tmp_path / "b.yaml")
    assert recipe.config == {} and recipe.backbone is None
    assert recipe.data.kind == "clips" and recipe.data.settings == {}


def test_a_parent_may_be_a_shipped_recipe(tmp_path: Path) -> None:
    write(tmp_path, mine="extends: xception-compact\nname: mine\nepochs: 1\n")
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert recipe.epochs == 1 and recipe.data == load_recipe("xception-compact").data


@pytest.mark.parametrize(
    ("recipes", "message"),
    [
        ({"a": "extends: b\n", "b": "extends: a\n"}, r"in a circle: a\.yaml -> b\.yaml -> a\.yaml"),
        ({"a": "extends: a\n"}, r"in a circle: a\.yaml -> a\.yaml"),
        ({"a": "extends: xception-compct\n"}, "did you mean 'xception-compact'"),
        ({"a": "extends: [b]\n"}, "the name of one recipe"),
        ({"a": "extends: b\n", "b": "only text"}, r"b\.yaml holds no mapping"),
        ({"a": "extends: xception-compact\n"}, "name: Field required"),
        ({"a": "extends: xception-compact\nname: a\nepoch: 3\n"}, "did you mean 'epochs'"),
    ],
)
def test_parents_that_cannot_be_taken_are_named(recipes: dict[str, str], message: str, tmp_path: Path) -> None:
    write(tmp_path, **recipes)
    with pytest.raises(RecipeError, match=message):
        load_recipe(tmp_path / "a.yaml")


def test_an_unknown_recipe_names_the_near_miss() -> None:
    with pytest.raises(RecipeError, match="did you mean 'laa_net-paper'"):
        load_recipe("laanet-paper")


def test_a_backbone_reaches_every_mobilenet_of_a_detector(tmp_path: Path) -> None:
    torch.manual_seed(5)
    given = MobileNetV1(4).net.state_dict()
    save_file({key: value.contiguous() for key, value in given.items()}, tmp_path / "net.safetensors")
    recipe = load_recipe("face_xray-compact", [f"backbone={tmp_path / 'net.safetensors'}"])
    (found,) = [module for module in create_detector(recipe).modules() if isinstance(module, MobileNetV1)]
    assert all(torch.equal(value, given[key]) for key, value in found.net.state_dict().items())
    assert load_backbone(load_recipe("face_xray-compact"), create_detector(load_recipe("face_xray-compact"))) == []


def test_backbones_that_cannot_be_taken_are_named(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    for name, file, message in (
        ("face_xray-compact", "none.safetensors", "none.safetensors"),
        ("face_xray-compact", "text.safetensors", "text.safetensors"),
        ("face_xray-compact", "other.safetensors", "not weights of mobilenetv1_100"),
        ("mesonet-compact", "other.safetensors", "another network's weights"),
        ("xception-paper", "other.safetensors", "another network's weights"),
    ):
        with pytest.raises(RecipeError, match=message):
            create_detector(load_recipe(name, [f"backbone={tmp_path / file}"]))


@pytest.mark.parametrize(
    ("override", "message"),
    [("detector=mesonett", "did you mean 'mesonet'"), ("config.sise=64", "did you mean 'size'")],
)
def test_a_network_that_cannot_be_made_is_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        create_detector(load_recipe("mesonet-compact", [override]))


def test_imagenet_weights_start_every_compact_mobilenet(shared: Path) -> None:
    file = shared / "weights/mobilenetv1_100.imagenet.safetensors"
    started = 0
    for recipe in COMPACT:
        detector = create_detector(recipe)
        if there := sum(isinstance(module, MobileNetV1) for module in detector.modules()):
            assert len(load_backbone(recipe.model_copy(update={"backbone": str(file)}), detector)) == there
            started += 1
    assert started >= 10
