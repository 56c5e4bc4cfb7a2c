"""A small bank of reference embeddings with a fixed map, on which a new face lands among real and fake ones.

`python -m train.gallery` makes it: public-domain portraits and pseudo-fakes of them, no picture kept. Only embeddings
of the very weights that it was made with have a place on it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

FILE = Path(__file__).with_name("weights") / "gallery.safetensors"
NEIGHBOURS = 5
REAL = "real"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Neighbour:
    """A reference by number, its kind (REAL, or the family of pseudo-fakes) and its distance; 1 is the mean distance of
    a reference to its nearest other."""

    index: int
    kind: str
    distance: float


@dataclass(frozen=True)
class Placed:
    """Where an embedding lies on the map, and the nearest references, nearest first."""

    x: float
    y: float
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Gallery:
    """References of one detector: `points` (N, K), principal components of their embeddings, whose first two are the
    map; `kinds` (N,). An embedding e (D,) lies at axes @ (e - mean)."""

    detector: str
    weights: str
    kinds: tuple[str, ...]
    points: Floats
    mean: Floats
    axes: Floats

    def place(self, embedding: Sequence[float] | Floats) -> Placed:
        """Raises ValueError for an embedding of another length."""
        vector = np.asarray(embedding, np.float32)
        if vector.shape != self.mean.shape:
            raise ValueError(f"the gallery of {self.detector} is of {self.mean.size} numbers, not {vector.size}")
        here = self.axes @ (vector - self.mean)
        far = np.linalg.norm(self.points - here, axis=1) / self.unit
        nearest = np.argsort(far, kind="stable")[:NEIGHBOURS]
        found = tuple(Neighbour(int(i), self.kinds[i], float(far[i])) for i in nearest)
        return Placed(float(here[0]), float(here[1]), found)

    @cached_property
    def unit(self) -> float:
        """Mean distance of a reference to its nearest other."""
        apart = np.linalg.norm(self.points[:, None] - self.points[None], axis=2)
        np.fill_diagonal(apart, np.inf)
        return float(apart.min(1).mean())


def principal(embeddings: Floats, components: int) -> tuple[Floats, Floats]:
    """Mean (D,) and axes (components, D) of embeddings (N, D); each axis points to where its largest entry is above 0,
    so that a map is never mirrored."""
    mean = embeddings.mean(0)
    axes = np.linalg.svd(embeddings - mean, full_matrices=False)[2][:components]
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])
    return mean.astype(np.float32), (axes * signs[:, None]).astype(np.float32)


@cache
def galleries(path: Path = FILE) -> dict[str, Gallery]:
    """By detector; empty where there is no file. Raises ValueError for one that is damaged."""
    if not path.is_file():
        return {}
    try:
        with safe_open(str(path), "np") as file:
            about = json.loads(file.metadata()["galleries"])
            read = {
                name: [np.asarray(file.get_tensor(f"{name}.{part}"), np.float32) for part in ("points", "mean", "axes")]
                for name in about
            }
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name} is no gallery: {error}") from None
    return {name: Gallery(name, one["weights"], tuple(one["kinds"]), *read[name]) for name, one in about.items()}


def gallery_for(detector: str, weights: str) -> Gallery | None:
    """The gallery that was made with these weights (a name and digits of their sha256, as results give them)."""
    found = galleries().get(detector)
    return found if found is not None and weights.endswith("@" + found.weights) else None
