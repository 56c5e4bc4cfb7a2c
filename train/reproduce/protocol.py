"""A published table as a file: what was measured, on what, by which rule, and the numbers that were printed."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from preprocessing.settings import Strict
from train.recipe import RecipeError, explain
from train.reproduce.sheet import ReproduceError

FOLDER = Path(__file__).parent / "protocols"

Figure = Literal["auc", "ap", "accuracy", "vote", "mean"]
"""vote: the share of a video's clips called fake; mean: their mean score. Both are of one video."""
Level = Literal["frame", "video"]
Aggregate = Literal["mean", "mean_logit", "vote", "top_third"]


class Data(Strict):
    """Which videos or pictures of the data sets that are there. Empty: any."""

    dataset: str = Field(description="as preprocessing/datasets calls it, or a manifest's column dataset")
    methods: tuple[str, ...] = Field(default=(), description="manipulations; real videos are always taken")
    compressions: tuple[str, ...] = ()
    split: str = ""
    real: int = Field(default=0, ge=0, description="videos of the published protocol; 0: not stated")
    fake: int = Field(default=0, ge=0)


class Row(Strict):
    """One line of the table. Figures are shares, 0..1."""

    name: str
    published: dict[Figure, float | None] = Field(min_length=1, description="null: not printed, ours alone")
    level: Level | None = Field(default=None, description="where it differs from the table's")
    data: Data | None = None
    recalled: bool = Field(default=False, description="the published number was not read at its source again")
    file: str = Field(default="", description="lrnet_demo: the video's name")
    weights: str = Field(default="", description="of this row, a folder or file below the data's root")
    tolerance: float = Field(default=0.0, ge=0, description="of a published output of one video")
    ratio: int = Field(default=0, ge=0, description="imbalance: so many real videos for one fake")
    loss: Literal["auc", "bce", "focal"] = "auc"
    minimum: int | None = Field(default=None, ge=1, description="imbalance: fakes in each batch, at least")


class Protocol(Strict):
    """A table and how it is made."""

    name: str
    paper: str
    table: str = Field(description="where the numbers stand")
    kind: Literal["media", "landmarks", "lrnet_demo", "imbalance"]
    detector: str
    profile: Literal["paper", "compact"] = "paper"
    needs: str = Field(description="the data, and how it lies")
    weights: str = Field(description="which weights, and how to get them in")
    level: Level = "video"
    aggregate: Aggregate = Field(default="mean", description="of a video's frame or clip scores")
    networks: int = Field(default=1, ge=1, description="media: so many vote on each video, by the majority")
    samples: int = Field(default=32, ge=2, le=256, description="faces of a video, evenly spaced, at most")
    threshold: float = 0.5
    recipe: str = Field(default="", description="imbalance: what is trained")
    tested: Data | None = Field(default=None, description="imbalance: the test set")
    differences: tuple[str, ...] = Field(default=(), description="from the authors' protocol")
    rows: tuple[Row, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _rows_have_what_the_kind_needs(self) -> Protocol:
        for row in self.rows:
            lacks = {
                "media": row.data is None,
                "landmarks": row.data is None,
                "lrnet_demo": not (row.file and row.weights),
                "imbalance": not (row.ratio and self.tested and self.recipe),
            }[self.kind]
            if lacks:
                raise ValueError(f"row {row.name!r} lacks what a protocol of kind {self.kind} needs")
        if self.networks > 1 and (self.kind != "media" or any("frame" in (row.level, self.level) for row in self.rows)):
            raise ValueError("networks vote on videos of a protocol of kind media")
        if len({(row.name, row.level) for row in self.rows}) < len(self.rows):
            raise ValueError("two rows have one name")
        return self


def read_protocol(path: Path) -> Protocol:
    """A protocol from its file. Raises ReproduceError that names the key."""
    try:
        return Protocol.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise ReproduceError(f"{path.name}: {explain(error)}") from error
    except (yaml.YAMLError, OSError, RecipeError) as error:
        raise ReproduceError(f"{path.name} cannot be read: {error}") from error


@cache
def protocols() -> tuple[Protocol, ...]:
    """All of them, by name."""
    return tuple(read_protocol(path) for path in sorted(FOLDER.glob("*.yaml")))


def load_protocol(name: str) -> Protocol:
    """Raises ReproduceError that names the near miss."""
    known = {one.name: one for one in protocols()}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        raise ReproduceError(f"no protocol is called {name!r}: {hint}")
    return known[name]
