"""Recipes: everything a training run depends on, in one YAML file that can be overridden key by key."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator
from torch.utils.data import Dataset

from detectors.base import Detector, Profile
from preprocessing.settings import Strict
from train.schedule import Optimiser
from train.start import Started, start_from

RECIPES = Path(__file__).parent / "recipes"
SUFFIXES = (".yaml", ".yml")


class RecipeError(ValueError):
    """A recipe, an override or a data folder that cannot be trained from; the message names it and the way out."""


class Freeze(Strict):
    """Parts of the network that do not learn at first."""

    parts: tuple[str, ...] = Field(min_length=1, description="prefixes of the parameters' names: backbone, body.0")
    epochs: int | None = Field(default=None, ge=1, description="so many from the first; null: all")
    norms: bool = Field(default=True, description="their batch norms keep and use their running statistics too")


class Sampling(Strict):
    """How items are drawn where real and fake are not to come in pairs."""

    singles: bool = Field(default=False, description="each pair's real and fake are items of their own")
    ratio: int | None = Field(default=None, ge=1, description="singles: so many real items for one fake; null: all")
    minimum: int | None = Field(default=None, ge=1, description="items of the rarer class in each batch, at least")

    @model_validator(mode="after")
    def _pairs_are_not_thinned(self) -> Sampling:
        if self.ratio is not None and not self.singles:
            raise ValueError("ratio leaves out fakes: it needs singles: true")
        return self


class Taught(Strict):
    """A trained detector whose embedding the network's follows (train/teacher.py)."""

    detector: str
    weights: str | None = Field(
        default=None, description="a .safetensors file or a folder; null: those that unmask uses, the user's own first"
    )
    sha256: str | None = Field(default=None, description="of the weights; a run fills it in and keeps to it")
    weight: float = Field(default=1.0, gt=0, description="of the distance between the embeddings in the loss")


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
    backbone: str | None = Field(
        default=None,
        description="weights to start from: ImageNet's in timm's or torchvision's names (safetensors), or a trained"
        " detector's that holds the same network (safetensors, or best.pt of a run)",
    )
    teacher: Taught | None = None
    data: DataRecipe
    optimiser: Optimiser = Optimiser()
    epochs: int = Field(ge=1)
    batch: int = Field(ge=1, description="items at once; an item may hold several samples, a real and its fake say")
    accumulate: int = Field(default=1, ge=1, description="batches whose gradients make one step")
    freeze: tuple[Freeze, ...] = ()
    sampling: Sampling = Sampling()
    watch: Literal["auc", "val_loss"] = Field(
        default="auc", description="validation figure that best.pt, patience and plateau go by"
    )
    patience: int | None = Field(default=None, ge=1, description="epochs without a better one after which to stop")
    seed: int = 1
    ema: float = Field(default=0.0, ge=0, lt=1, description="decay of the averaged weights that are validated; 0: none")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the forward pass; weights and loss stay float32"
    )
    compile: bool = Field(default=False, description="torch.compile the training step")
    workers: int = Field(default=0, ge=0, description="loader processes")
    threads: int | None = Field(default=None, ge=1, description="threads of torch; None: its own choice")


class EpochDataset(Dataset[dict[str, Any]]):
    """A map-style dataset whose samples differ from epoch to epoch, all of them following from (seed, epoch, index).

    An item is `{"inputs": array (k, ...), "label": float32 (k,)}`: k samples of the detector's declared input. It may
    hold `"mask"` (k, size, size), for clips (k, length, size, size), float32: the weight of the foreign face in each
    pixel, from which the detector makes its own targets; `"frame_label"` (k, length); and `"source"` (k,) integers,
    equal for a real sample and the fakes made from it. A frame label of -1 marks a frame that does not count.
    """

    epoch: int = 0
    labels: NDArray[np.float32] | None = None
    """(N,): each item's label, where items hold one; None where they hold real and fake samples."""
    finish: Callable[..., Any] | None = None
    """(stacked items, device, targets) to inputs and truth, for data that is finished where the network is: its items
    then hold what that takes (train/device_pairs.py)."""

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

    A recipe with `extends: OTHER` (a name, or a path relative to its own folder) takes OTHER's values where it has none
    of its own: mappings are merged key by key, anything else is replaced, `name` is never inherited. Another detector
    does not inherit `config`, `backbone` and `teacher`, nor another kind of data `settings`.

    Keys are dotted (`optimiser.lr=3e-4`, `data.settings.margin=1.5`), values are YAML.

    Raises:
        RecipeError: no such recipe or parent, recipes that extend each other in a circle, not YAML, an unknown key
            (with the near miss) or a value out of its range.
    """
    path = Path(recipe)
    if path.suffix not in SUFFIXES:
        path = RECIPES / f"{recipe}.yaml"
    if not path.is_file():
        raise RecipeError(f"no recipe {str(recipe)!r}: {_known(str(recipe))}")
    tree = _resolved(path, ())
    for override in overrides:
        _override(tree, override)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(f"{path}: {explain(error)}") from error


def _known(name: str) -> str:
    known = sorted(p.stem for p in RECIPES.glob("*.yaml"))
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}give a .yaml file or one of {', '.join(known)}"


def _resolved(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    """The tree of keys of a recipe's file with those of the recipes it extends."""
    chain = (*children, path.resolve())
    if path.resolve() in children:
        raise RecipeError(f"recipes extend each other in a circle: {' -> '.join(p.name for p in chain)}")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not YAML in UTF-8: {error}") from error
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(tree, dict):
        raise RecipeError(f"{path} holds no mapping of keys to values")
    parent = tree.pop("extends", None)
    if parent is None:
        return tree
    if not isinstance(parent, str):
        raise RecipeError(f"{path}: extends is the name of one recipe or a .yaml file, not {parent!r}")
    place = path.parent / (parent if Path(parent).suffix in SUFFIXES else f"{parent}.yaml")
    if not place.is_file():
        place = RECIPES / f"{parent}.yaml"
    if not place.is_file():
        raise RecipeError(f"{path} extends {parent!r}, which is no recipe: {_known(parent)}")
    return _merged(_inherited(_resolved(place, chain), tree), tree)


def _inherited(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in parent.items() if key != "name"}
    if child.get("detector", kept.get("detector")) != kept.get("detector"):
        kept = {key: value for key, value in kept.items() if key not in ("config", "backbone", "teacher")}
    ours, theirs = child.get("data"), kept.get("data")
    if isinstance(ours, dict) and isinstance(theirs, dict):
        kind = theirs.get("kind")
        if ours.get("kind", kind) != kind:
            del kept["data"]
    return kept


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, mappings key by key."""
    both = dict(base)
    for key, value in over.items():
        under = both.get(key)
        both[key] = _merged(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return both


def data_settings(recipe: Recipe) -> Any:
    """The validated settings of the recipe's data kind."""
    try:
        return data_module(recipe.data.kind).Settings.model_validate(recipe.data.settings)
    except ValidationError as error:
        raise RecipeError(f"recipe {recipe.name}, data.settings: {explain(error)}") from error


def build_data(recipe: Recipe, detector: Detector, data: Path | None) -> DataSplits:
    """Training and validation data as the recipe asks; `data` is the folder or file given on the command line.

    Raises:
        RecipeError: no such folder, what the data kind refuses, or sampling that the data cannot give.
    """
    if data is not None and not data.exists():
        raise RecipeError(f"there is no folder or file {data}: --data names what to train on")
    splits = data_module(recipe.data.kind).build(data_settings(recipe), recipe, detector, data)
    if recipe.sampling.singles:
        if splits.train.finish is not None:
            raise RecipeError(
                f"recipe {recipe.name}, sampling: data.kind {recipe.data.kind} makes real and fake of a whole batch:"
                " leave singles out"
            )
        from train.imbalance import Singles

        singles = Singles(splits.train, recipe.sampling.ratio, recipe.seed, f"recipe {recipe.name}, sampling")
        splits.train = singles
        fakes = int(singles.labels.sum())
        splits.summary["singles"] = {"real": len(singles) - fakes, "fake": fakes}
    return splits


def create_detector(recipe: Recipe) -> Detector:
    """The recipe's untrained network, its MobileNets on ImageNet weights where the recipe names such.

    Raises:
        RecipeError: an unknown detector or config key (with the near miss), or `backbone` as in `load_backbone`.
    """
    from detectors.registry import create, entry

    try:
        base = entry(recipe.detector).profiles[recipe.profile]
        config = type(base).model_validate({**base.model_dump(), **recipe.config})
    except ValidationError as error:
        raise RecipeError(f"recipe {recipe.name}, config: {explain(error)}") from error
    except ValueError as error:
        raise RecipeError(f"recipe {recipe.name}: {error}") from error
    detector = create(recipe.detector, recipe.profile, config)
    load_backbone(recipe, detector)
    return detector


def load_backbone(recipe: Recipe, detector: Detector) -> list[Started]:
    """Take `recipe.backbone` into the detector; what was taken (nothing where the key is not set).

    Raises:
        RecipeError: no such file, no weights, or another network's.
    """
    if recipe.backbone is None:
        return []
    try:
        return start_from(detector, Path(recipe.backbone))
    except (OSError, ValueError) as error:
        raise RecipeError(f"recipe {recipe.name}, backbone {recipe.backbone}: {error}") from error


def describe(recipe: Recipe, detector: Detector, splits: DataSplits) -> dict[str, Any]:
    """What a run would do, in plain values for YAML or JSON: `recipe` resolved, `config` of the detector with its
    defaults, `parameters` (all, trained), `data` (the builder's summary), `items` and `samples` of an epoch and of
    validation, `steps` of an epoch and of the run. One training item is made, to count its samples."""
    from train.ranks import training_batches

    each = len(splits.train[0]["label"]) if len(splits.train) else 0
    steps = -(-len(training_batches(recipe, splits.train)) // recipe.accumulate)
    items = min(recipe.batch * recipe.accumulate, len(splits.train))
    return {
        "recipe": recipe.model_dump(mode="json"),
        "config": detector.config.model_dump(mode="json"),
        "parameters": {
            "all": sum(p.numel() for p in detector.parameters()),
            "trained": sum(p.numel() for p in detector.parameters() if p.requires_grad),
        },
        "data": json.loads(json.dumps(splits.summary, default=str)),
        "items": {"train": len(splits.train), "validation": len(splits.validation)},
        "samples": {"item": each, "step": each * items},
        "steps": {"epoch": steps, "run": steps * recipe.epochs},
    }


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
