"""Pairs blended where the network is: a whole batch at once, the same on every run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from training_media import make_pack

from detectors.registry import create
from train.__main__ import main
from train.device_pairs import DevicePairs, Settings, build
from train.feed import Batch, Feed
from train.ranks import Batches, Ranks
from train.recipe import Recipe, RecipeError, load_recipe

KIND = "data={kind: device_pairs, settings: {held_out: 0.4, validation_items: 4}}"


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("pack") / "faces.npz", 12)


def pairs(pack: Path, name: str = "face_xray", **settings: object) -> tuple[DevicePairs, Recipe]:
    recipe = load_recipe(f"{name}-compact", [KIND])
    chosen = Settings.model_validate({**recipe.data.settings, **settings})
    data = build(chosen, recipe, create(name, "compact"), pack).train
    assert isinstance(data, DevicePairs)
    return data, recipe


def batches(data: DevicePairs, name: str = "face_xray", device: str = "cpu") -> list[Batch]:
    return list(Feed(data, Batches(len(data), 3, Ranks()), 0, create(name, "compact").targets, device))


def test_a_batch_holds_real_and_fake_in_turn_that_differ_where_the_mask_says(pack: Path) -> None:
    data, _ = pairs(pack, post=False)
    batch = batches(data)[0]
    size = data.spec.size
    assert batch.inputs.shape == (6, size, size, 3) and batch.inputs.dtype == torch.uint8
    assert batch.truth.label.tolist() == [0, 1] * 3
    assert batch.truth.source.tolist() == np.repeat(data.rows[batch.items], 2).tolist()
    xrays = next(iter(batch.truth.maps.values()))
    assert not xrays[::2].any() and xrays[1::2].flatten(1).any(1).all()
    change = (batch.inputs[1::2].int() - batch.inputs[::2].int()).abs().sum(-1)
    assert (change.flatten(1) > 0).any(1).all()
    corners = change[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert not corners.any(), "outside the mask nothing is blended"


def test_an_item_is_the_same_sample_whoever_shares_its_batch(pack: Path) -> None:
    """With any number of workers, and alone, as the item that broke a step is looked for."""
    data, _ = pairs(pack)
    targets = create("face_xray", "compact").targets
    (whole,) = Feed(data, Batches(2, 2, Ranks()), 0, targets)
    share = Feed(data, Batches(2, 2, Ranks(1, 2)), 0, targets)
    for second in (next(iter(share)), share.batch(1)):
        assert second.items == [1] and torch.equal(second.inputs, whole.inputs[2:])
        assert all(torch.equal(value, whole.truth.maps[name][2:]) for name, value in second.truth.maps.items())


def test_the_draw_follows_from_seed_epoch_and_item(pack: Path) -> None:
    data, _ = pairs(pack)
    first, again = batches(data), batches(data)
    assert all(torch.equal(one.inputs, other.inputs) for one, other in zip(first, again, strict=True))
    data.epoch = 1
    assert not torch.equal(batches(data)[0].inputs, first[0].inputs)


@pytest.mark.parametrize("name", ["xception", "face_xray"])
def test_it_trains_by_the_command(name: str, pack: Path, tmp_path: Path) -> None:
    """One network of labels alone, one with maps of its own."""
    command = [f"{name}-compact", "--data", str(pack), "--out", str(tmp_path / "run"), KIND, "epochs=1", "batch=3"]
    assert main([*command, "workers=1", "precision=float32"]) == 0
    assert (tmp_path / "run/best.pt").is_file()


def test_what_needs_single_samples_is_refused(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["xception-compact", "--data", str(pack), KIND, "sampling={singles: true}", "--dry-run"]) == 2
    assert "makes real and fake of a whole batch" in capsys.readouterr().err


def test_clips_are_refused(pack: Path) -> None:
    recipe = load_recipe("c3d-compact", [KIND])
    with pytest.raises(RecipeError, match="c3d takes something else"):
        build(Settings(), recipe, create("c3d", "compact"), pack)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_batches_are_made_on_the_gpu(pack: Path) -> None:
    data, _ = pairs(pack)
    batch = batches(data, device="cuda")[0]
    assert batch.inputs.device.type == batch.truth.label.device.type == "cuda"
