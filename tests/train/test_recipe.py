"""Recipes: every shipped one is valid, and every mistake is named with the way out."""

from pathlib import Path

import pytest

from detectors.registry import entry
from train.__main__ import main
from train.recipe import RECIPES, RecipeError, data_module, data_settings, load_recipe

SHIPPED = sorted(path.stem for path in RECIPES.glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_are_valid_down_to_their_data_settings(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    data_settings(recipe)
    base = entry(recipe.detector).profiles[recipe.profile]
    type(base).model_validate({**base.model_dump(), **recipe.config})


def test_overrides_reach_any_depth_and_keep_the_rest() -> None:
    plain = load_recipe("mesonet-compact")
    changed = load_recipe(
        "mesonet-compact",
        ["optimiser.lr=3e-4", "epochs=2", "data.settings.blend.families={face: 1}", "config.size=128"],
    )
    assert changed.optimiser.lr == 3e-4 and changed.epochs == 2 and changed.config["size"] == 128
    assert changed.config["margin"] == plain.config["margin"] and changed.optimiser.name == plain.optimiser.name
    assert data_settings(changed).blend.families == {"face": 1}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epoch=2", "did you mean 'epochs'"),
        ("optimiser.shedule=cosine", "optimiser: unknown key 'shedule': did you mean 'schedule'"),
        ("optimiser.lr=-1", "optimiser.lr: .*greater than 0"),
        ("epochs", "not of the form key=value"),
        ("epochs=[", "not YAML"),
        ("epochs.more=1", "holds a single value"),
        ("batch=many", "batch: .*integer"),
    ],
)
def test_a_mistake_in_an_override_is_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("mesonet-compact", [override])


def test_mistakes_in_data_settings_are_named() -> None:
    with pytest.raises(RecipeError, match="did you mean 'degrade'"):
        data_settings(load_recipe("mesonet-compact", ["data.settings.degade=false"]))
    with pytest.raises(RecipeError, match=r"no module train\.nothing"):
        data_settings(load_recipe("mesonet-compact", ["data.kind=nothing"]))
    with pytest.raises(RecipeError, match="has no Settings and build"):
        data_module("recipe")


def test_a_missing_or_broken_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="mesonet-compact"):
        load_recipe("no-such-recipe")
    (tmp_path / "a.yaml").write_text("just text")
    with pytest.raises(RecipeError, match="no mapping"):
        load_recipe(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("a: [")
    with pytest.raises(RecipeError, match="not YAML"):
        load_recipe(tmp_path / "b.yaml")
    (tmp_path / "c.yaml").write_bytes("name: prüfung".encode("latin-1"))
    with pytest.raises(RecipeError, match=r"c\.yaml is not YAML in UTF-8"):
        load_recipe(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-recipe"], "no recipe 'no-such-recipe'"),
        (["mesonet-compact", "detector=mesonett"], "did you mean 'mesonet'"),
        (["mesonet-compact", "config.sise=64"], "did you mean 'size'"),
        (["mesonet-compact", "data.settings.pack=none.npz"], "give the folder with real faces by --data DIR"),
    ],
)
def test_the_command_answers_mistakes_with_exit_2_and_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error
