"""Recipes: everything a training run depends on, in one YAML file that can be overridden key by key."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import yaml
from pydantic import Field, ValidationError
from torch.utils.data import Dataset

from detectors.base import Detector, Profile
from preprocessing.settings import Strict

RECIPES = Path(__file__).parent / "recipes"


class RecipeError(ValueError):
    """A recipe, an override or a data folder that cannot be trained from; the message names it and the way out."""


class Optimiser(Strict):
    """How the weights move."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1, description="sgd only")
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = Field(default=0.0, ge=0, lt=1, description="share of all steps over which lr rises from 0")
    clip: float | None = Field(default=None, gt=0, description="largest norm of the gradient")


class DataRecipe(Strict):
    """What is trained on. `kind` names the module of `train` that builds it; `settings` are that module's own."""

    kind: str
    settings: dict[str, Any] = Field(default={})


class Recipe(Strict):
    """One training run of one detector."""

    name: str
    detector: str
    profile: Profile = "compact"
    config: dict[str, Any] = Field(default={}, description="overrides of the profile's detector config")
    data: DataRecipe
    optimiser: Optimiser = Optimiser()
    epochs: int = Field(ge=1)
    batch: int = Field(ge=1, description="items a step; an item may hold several samples, a real and its fake say")
    seed: int = 1
    ema: float = Field(default=0.0, ge=0, lt=1, description="decay of the averaged weights that are validated; 0: none")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the forward pass; weights and loss stay float32"
    )
    workers: int = Field(default=0, ge=0, description="loader processes")
    threads: int | None = Field(default=None, ge=1, description="threads of torch; None: its own choice")


class EpochDataset(Dataset[dict[str, Any]]):
    """A map-style dataset whose samples differ from epoch to epoch, all of them following from (seed, epoch, index).

    An item is `{"inputs": array (k, ...), "label": float32 (k,)}`: k samples of the detector's declared input. It may
    hold `"mask"` (k, size, size), for clips (k, length, size, size), float32: the weight of the foreign face in each
    pixel, from which the detector makes its own targets; `"frame_label"` (k, length); and `"source"` (k,) integers,
    equal for a real sample and the fakes made from it.
    """

    epoch: int = 0

    def __len__(self) -> int:
        raise NotImplementedError


@dataclass
class DataSplits:
    """What a dataset builder gives. `summary` is printed before training and kept in the run folder.

    `validation` yields the same items in every epoch; its people and sources are not those of `train`.
    """

    train: EpochDataset
    validation: EpochDataset
    summary: dict[str, Any]


class DataModule(Protocol):
    """What a module of `train` offers to be named by a recipe's `data.kind`."""

    Settings: type[Strict]

    def build(self, settings: Any, recipe: Recipe, detector: Detector, data: Path | None) -> DataSplits:
        """`settings` is an instance of `Settings`; `data` the folder given on the command line."""
        ...


def data_module(kind: str) -> DataModule:
    """The module `train.<kind>`, which has `Settings` and `build`. Adding a kind of data edits no existing file."""
    name = f"train.{kind}"
    if not kind.isidentifier() or importlib.util.find_spec(name) is None:
        raise RecipeError(f"data.kind {kind!r}: there is no module {name}")
    module: Any = importlib.import_module(name)
    if not (hasattr(module, "Settings") and hasattr(module, "build")):
        raise RecipeError(f"data.kind {kind!r}: the module {name} has no Settings and build, so it builds no data")
    return module


def load_recipe(recipe: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe of that name (train/recipes/NAME.yaml) or path, with `key=value` overrides applied.

    Keys are dotted (`optimiser.lr=3e-4`, `data.settings.margin=1.5`), values are YAML.

    Raises:
        RecipeError: no such recipe, not YAML, an unknown key (with the near miss) or a value out of its range.
    """
    path = Path(recipe)
    if path.suffix not in (".yaml", ".yml"):
        path = RECIPES / f"{recipe}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
        raise RecipeError(f"no recipe {str(recipe)!r}: give a .yaml file or one of {known}")
    try:
        tree = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise RecipeError(f"{path} holds no mapping of keys to values")
    for override in overrides:
        _override(tree, override)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(f"{path}: {explain(error)}") from error


def data_settings(recipe: Recipe) -> Any:
    """The validated settings of the recipe's data kind."""
    try:
        return data_module(recipe.data.kind).Settings.model_validate(recipe.data.settings)
    except ValidationError as error:
        raise RecipeError(f"recipe {recipe.name}, data.settings: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """pydantic's findings on one line, each with its dotted key."""
    return "; ".join(
        f"{'.'.join(str(part) for part in found['loc'])}: {found['msg'].removeprefix('Value error, ')}".removeprefix(
            ": "
        )
        for found in error.errors()
    )


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"override {override!r} is not of the form key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"override {override!r}: the value is not YAML") from error
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise RecipeError(f"override {override!r}: {parent!r} holds a single value, not keys")
        node = child
    node[last] = value
