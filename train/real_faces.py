"""Real faces to make pseudo-fakes of, from a pack (train/faces.py) or a prepared set (train/prepare)."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from preprocessing.crops import crop_transform
from preprocessing.inputs import FaceInput
from preprocessing.landmarks import to_81
from preprocessing.types import Image, Points
from train import faces as packs
from train import leaks
from train.leak_sides import of_prepared
from train.prepare import PreparedSet, PrepareError
from train.recipe import RecipeError

FRAME = FaceInput(317, 2.0)
"""The framing in which faces are compared and blended with each other (specs/blending.md, section 2: 317 px, a face box
enlarged twice)."""


class RealFaces(Protocol):
    """Faces by number: `sources` (N,) the person or video of each, `margin` of the stored crops."""

    sources: NDArray[np.str_]
    margin: float

    def __len__(self) -> int: ...

    def face(self, index: int) -> tuple[Image, Points]:
        """The stored crop and its landmarks (81, 2) in its pixels."""
        ...

    def framed(self) -> Points:
        """Landmarks (N, 68, 2) of all faces in pixels of FRAME."""
        ...


class PackedFaces:
    """The faces of `python -m train.faces pack`."""

    margin = packs.STORED_MARGIN

    def __init__(self, pack: packs.FacePack) -> None:
        self.pack, self.sources = pack, pack.source

    def __len__(self) -> int:
        return len(self.pack)

    def face(self, index: int) -> tuple[Image, Points]:
        return self.pack.image(index), to_81(self.pack.points[index][None])[0]

    def framed(self) -> Points:
        return np.stack([_in_frame(points, FRAME) for points in self.pack.points])


class PreparedFaces:
    """The faces with landmarks of a prepared set; a source is all people of a video, else the video."""

    def __init__(self, data: PreparedSet) -> None:
        self.data = data
        self._kept = np.flatnonzero(np.isfinite(data.landmarks).all(axis=(1, 2)))
        made = data.made_by["settings"]
        self.margin = float(made["margin"])
        self._frame = FaceInput(FRAME.size, FRAME.margin, "eyes" if made["crop"] == "aligned" else "none")
        items = [data.video(int(i)).item for i in self._kept]
        self.sources = np.array([";".join(item.identities) or item.path for item in items], np.str_)

    def __len__(self) -> int:
        return len(self._kept)

    def face(self, index: int) -> tuple[Image, Points]:
        sample = self.data[int(self._kept[index])]
        return sample.image, sample.in_crop(sample.landmarks_81)

    def framed(self) -> Points:
        return np.stack([_in_frame(points, self._frame) for points in self.data.landmarks[self._kept]])

    @cached_property
    def _made_from(self) -> dict[str, NDArray[np.int64]]:
        """Faces by the path of the real video that they were made from."""
        found: dict[str, list[int]] = {}
        for index, place in enumerate(self._kept.tolist()):
            found.setdefault(self.data.video(place).item.source, []).append(index)
        return {source: np.array(rows, np.int64) for source, rows in found.items()}

    def path(self, index: int) -> str:
        """Of the video, in the data set."""
        return self.data.video(int(self._kept[index])).item.path

    def draw(self, source: str, rng: np.random.Generator) -> int:
        """A face made from the video `source`, any face where none is known to be."""
        rows = self._made_from.get(source)
        return int(rng.integers(len(self))) if rows is None else int(rows[int(rng.integers(len(rows)))])


def _in_frame(points: Points, frame: FaceInput) -> Points:
    matrix = crop_transform(points[:68], frame)
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float32)


Rows = NDArray[np.int64]


def packed(
    path: Path, data: Path | None, chosen: packs.Settings, seed: int
) -> tuple[PackedFaces, Rows, Rows, dict[str, Any]]:
    """A pack, made from the folder `data` first where it is missing; its rows to train and to validate on; a summary.

    Raises RecipeError where there is neither, LeakError where both sides share a face.
    """
    pack, train, validation, summary = packs.open_pack(path, data, chosen, seed)
    return PackedFaces(pack), train, validation, summary


def prepared(
    folder: str, label: int, without: frozenset[str], allow_leaks: bool = False
) -> tuple[PreparedFaces, PreparedFaces, dict[str, Any]]:
    """The faces of that label in a prepared set's splits train and val, and a summary.

    Raises RecipeError where the folder is no prepared set, or a split has none; LeakError where any of its splits,
    test too, share a person, a video or a picture.
    """
    try:
        data = PreparedSet(folder)
    except PrepareError as error:
        raise RecipeError(str(error)) from error
    both = [PreparedFaces(data.select(split=s, label=label, without=without)) for s in ("train", "val")]
    for name, faces in zip(("train", "val"), both, strict=True):
        if not len(faces):
            kind = "fake" if label else "real"
            raise RecipeError(
                f"the prepared set {folder} has no {kind} faces of split {name}: prepare it with --split own"
            )
    report = leaks.check(*of_prepared(data), allow=allow_leaks)
    summary = {
        "prepared": data.made_by,
        "train_faces": len(both[0]),
        "validation_faces": len(both[1]),
        "train_sources": len(np.unique(both[0].sources)),
        "validation_sources": len(np.unique(both[1].sources)),
        **report.summary(),
    }
    return both[0], both[1], summary
