"""Face crops to train on: packed once from real pictures and videos, blended into pairs on the fly.

`python -m train.faces pack --data DIR [--out FILE]` finds the largest face of each picture and of some frames of each
video, and stores a margin crop with 68 landmarks in one file.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from detectors.base import Detector
from preprocessing.blending import BlendSettings, Degradation, PostAugmentation, sample_rng, self_blend
from preprocessing.crops import face_input, face_square
from preprocessing.errors import MediaError, UndecodableMedia
from preprocessing.inputs import FaceInput
from preprocessing.landmarks import create_landmark_predictor, flip_points, to_81
from preprocessing.types import Image, Points
from train import leaks
from train.fingerprints import joined, perceptual_hash
from train.leak_sides import of_faces
from train.packs import (
    VIDEOS,
    Stored,
    encoded,
    fraction,
    held_out,
    in_one,
    media_files,
    person_of,
    picture,
    unreserved,
)
from train.recipe import DataSplits, EpochDataset, Recipe, RecipeError
from train.shared_settings import CropSettings, PackSettings

PACK = Path(".local/train/faces.npz")

STORED_MARGIN = 2.0
"""Side of a stored crop over the longer side of the landmark box: what self-blending shifts and blurs relate to."""
STORED_SIDE = 288
"""Pixels; larger crops are shrunk. A crop of margin 1.5 then still has 216 px."""
SMALLEST_FACE = 48
"""Pixels of the longer side of the landmark box below which nothing is left to learn from."""
QUALITY = 95
"""Of the stored JPEGs."""


class Settings(PackSettings, CropSettings):
    """How pairs are made from a pack."""

    pack: Path | None = Field(default=None, description=f"the packed faces; default {PACK}, made from --data")
    blend: BlendSettings = BlendSettings()
    degrade: bool = Field(default=True, description="resolution, blur, noise and JPEG, drawn for both classes alike")
    face_sides: tuple[float, float] = Field(default=(64, 256), description="pixels that faces are brought down to")
    qualities: tuple[int, int] = Field(default=(30, 100), description="of the JPEG passes")


@dataclass(frozen=True)
class FacePack(Stored):
    """Stored faces: JPEG crops with `points` (N, 68, 2) in their pixels; `source` (the person or the clip, where
    known), `dataset` and `sha256` (of the file they come from), each (N,)."""

    maker: ClassVar[str] = "python -m train.faces pack"
    jpegs: NDArray[np.uint8]
    ends: NDArray[np.int64]
    points: Points
    source: NDArray[np.str_]
    dataset: NDArray[np.str_]
    sha256: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.ends)

    def image(self, index: int) -> Image:
        """(H, W, 3) RGB."""
        return picture(self.jpegs, self.ends, index)


class FacePairs(EpochDataset):
    """Item: the real crop and its self-blended fake, uint8 (2, size, size, 3), targets 0 and 1.

    Flip, post augmentation, degradation and crop jitter are drawn once and applied to both, so that only the blend
    tells them apart. The crop goes through `face_input`, as in analysis.
    """

    def __init__(self, pack: FacePack, rows: NDArray[np.int64], spec: FaceInput, settings: Settings, seed: int) -> None:
        self.pack, self.rows, self.spec, self.settings, self.seed = pack, rows, spec, settings, seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = sample_rng(self.seed, self.epoch, index)
        row = int(self.rows[index])
        image, points = self.pack.image(row), self.pack.points[row]
        if rng.random() < 0.5:
            image, points = np.ascontiguousarray(image[:, ::-1]), flip_points(points, image.shape[1])
        pair = self_blend(image, to_81(points[None])[0], rng, self.settings.blend)
        inputs = self._finish([pair.real, pair.fake], points, rng)
        return {"inputs": inputs, "label": np.array([0, 1], np.float32)}

    def _finish(self, images: list[Image], points: Points, rng: np.random.Generator) -> NDArray[np.uint8]:
        chosen = self.settings
        post = PostAugmentation.draw(rng)
        worse = Degradation.draw(rng, chosen.face_sides, chosen.qualities)
        side = face_square(points, 1.0)[2]
        margin = self.spec.margin * (1 + float(rng.uniform(-chosen.margin_jitter, chosen.margin_jitter)))
        moved = points + side * rng.uniform(-chosen.shift_jitter, chosen.shift_jitter, 2).astype(np.float32)
        spec = replace(self.spec, margin=margin)
        crops = []
        for image in images:
            changed, factor = post(image), 1.0
            if chosen.degrade:
                changed, factor = worse(changed, side)
            # Pixel centres are at whole coordinates on both sides of the resize.
            crops.append(face_input(changed, (0, 0), (moved + 0.5) * factor - 0.5, spec))
        return np.stack(crops)


def build(settings: Settings, recipe: Recipe, detector: Detector, data: Path | None) -> DataSplits:
    """Training and validation pairs; the pack is made from `data` first where it is missing."""
    if not isinstance(detector.input, FaceInput):
        raise RecipeError(
            f"data.kind faces gives face crops, and {recipe.detector} takes {type(detector.input).__name__}"
        )
    path = data if data is not None and data.is_file() else settings.pack or PACK
    pack, train, validation, summary = open_pack(path, data, settings, recipe.seed)
    make = [
        FacePairs(pack, rows, detector.input, settings, seed)
        for rows, seed in ((train, recipe.seed), (validation, recipe.seed + 1))
    ]
    return DataSplits(make[0], make[1], summary)


Rows = NDArray[np.int64]


def open_pack(
    path: Path, data: Path | None, chosen: Settings, seed: int
) -> tuple[FacePack, Rows, Rows, dict[str, Any]]:
    """A pack, made from the folder `data` first where it is missing; its rows to train and to validate on; a summary.

    Raises RecipeError where there is neither, LeakError where both sides share a face.
    """
    if not path.exists():
        if data is None or data.is_file():
            raise RecipeError(f"there is no pack {path}: give the folder with real faces by --data DIR")
        pack_folder(data, path)
    pack = FacePack.load(path)
    train, validation = split(pack, chosen, seed)
    report = leaks.check_rows(of_faces(pack, path), train, validation, chosen.allow_leaks)
    summary = {
        "pack": path.name,
        "pack_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "faces": dict(sorted(Counter(pack.dataset.tolist()).items())),
        "train_faces": dict(sorted(Counter(pack.dataset[train].tolist()).items())),
        "train_sources": len(np.unique(pack.source[train])),
        "validation_sources": len(np.unique(pack.source[validation])),
        **report.summary(),
    }
    return pack, train, validation, summary


def split(pack: FacePack, settings: Settings, seed: int) -> tuple[Rows, Rows]:
    """Rows to train on and rows to validate on, no source in both; by the hash of the source, so that adding faces
    moves nobody from one to the other."""
    held = held_out(pack.source, settings.held_out, seed)
    order = np.argsort([fraction(f"{seed}/{sha}/{i}") for i, sha in enumerate(pack.sha256.tolist())])
    train = order[~held[order]]
    if settings.per_dataset is not None:
        seen: Counter[str] = Counter()
        kept = []
        for row in train.tolist():
            seen[str(pack.dataset[row])] += 1
            if seen[str(pack.dataset[row])] <= settings.per_dataset:
                kept.append(row)
        train = np.array(kept, np.int64)
    return np.sort(train), np.sort(order[held[order]][: settings.validation_items])


# --- packing


class FaceFinder:
    """The largest face of a picture, or of some frames of a video, with 68 landmarks."""

    def __init__(self) -> None:
        from preprocessing.faces.dlib_detectors import HogDetector

        self._landmarks = create_landmark_predictor()
        # Trained-on pictures are mostly portraits: one scale finds them at a tenth of the cost of a full search.
        self._stills, self._videos = HogDetector(480, 2.0), HogDetector(640, 1.0)

    def __call__(self, path: Path, frames: int) -> Iterator[tuple[Image, Points] | None]:
        """For the picture, or for each of at most `frames` frames: the whole of it (H, W, 3) RGB and the landmarks
        (68, 2), None without a face. Raises MediaError."""
        video = path.suffix.lower() in VIDEOS
        for image in _frames(path, frames) if video else _still(path):
            found = (self._videos if video else self._stills).detect(image)
            if not found:
                yield None
                continue
            box = max(found, key=lambda face: float(face.box[2] - face.box[0])).box
            yield image, self._landmarks.predict(image, box[None])[0][:68]


def pack_folder(root: Path, out: Path, reserved: str = "01", frames: int = 24) -> FacePack:
    """Find and store the faces of the real pictures and videos under `root`; prints its progress.

    Where `root` has a manifest.csv, its rows of label real and split train are taken, else every picture and video.
    Files whose sha256 begins with a digit of `reserved` are left out: they measure false positives. Sources that show
    the same picture become one, so that it cannot be in training and in validation.

    Raises:
        RecipeError: no such folder, or no face found.
    """
    files = media_files(root)
    finder = FaceFinder()
    rows: list[tuple[bytes, Points, str, str, str]] = []
    left: Counter[str] = Counter()
    for dataset, path, sha in unreserved(files, reserved, left, rows, "faces"):
        try:
            for found in finder(path, frames):
                if found is None:
                    left["without a face"] += 1
                    continue
                stored = store_face(*found)
                if stored is None:
                    left["too small or cut off"] += 1
                    continue
                rows.append((*stored, person_of(dataset, path), dataset, sha))
        except MediaError as error:
            left["unreadable"] += 1
            print(f"{path}: {error}", file=sys.stderr)
    if not rows:
        raise RecipeError(f"no face was found under {root} ({dict(left)})")
    jpegs, points_of, sources, datasets, shas = zip(*rows, strict=True)
    points = np.stack(points_of).astype(np.float32)
    content, ends = in_one(jpegs)
    hashes = np.stack([perceptual_hash(picture(content, ends, row), points[row]) for row in range(len(rows))])
    named = np.array(sources)
    pack = FacePack(content, ends, points, joined(named, hashes), np.array(datasets), np.array(shas))
    pack.save(out)
    print(f"{len(pack)} faces of {len(files)} files in {out}; left out: {dict(left)}", file=sys.stderr)
    if same := len(np.unique(named[named != pack.source])):
        print(f"{same} sources show a picture of another one and count as that", file=sys.stderr)
    return pack


def _still(path: Path) -> list[Image]:
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise UndecodableMedia(f"{path.name} does not decode")
    return [cv2.cvtColor(image, cv2.COLOR_BGR2RGB)]


def _frames(path: Path, count: int) -> Iterator[Image]:
    """At most `count` frames, evenly spaced by the container's word on its length, else every tenth."""
    from preprocessing.media import open_media

    with open_media(path) as media:
        stride = max((media.info.frames or 10 * count) // count, 1)
        taken = 0
        for frame in media:
            if frame.index % stride == 0:
                yield frame.image
                taken += 1
                if taken == count:
                    return


def store_face(image: Image, points: Points) -> tuple[bytes, Points] | None:
    """The margin crop as JPEG and its landmarks in the crop's pixels; None for a face too small or mostly outside."""
    height, width = image.shape[:2]
    x, y, side = face_square(points, STORED_MARGIN)
    inside = ((points >= 0) & (points <= (width - 1, height - 1))).all(axis=1).mean()
    if side / STORED_MARGIN < SMALLEST_FACE or inside < 0.9:
        return None
    left, top = max(round(x - side / 2), 0), max(round(y - side / 2), 0)
    crop = image[top : round(y + side / 2) + 1, left : round(x + side / 2) + 1]
    scale = min(STORED_SIDE / max(crop.shape[:2]), 1.0)
    if scale < 1:
        crop = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return encoded(crop, QUALITY), ((points - (left, top) + 0.5) * scale - 0.5).astype(np.float32)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 packed, 2 usage."""
    parser = argparse.ArgumentParser(prog="python -m train.faces", description="Pack real faces for training.")
    pack = parser.add_subparsers(required=True).add_parser("pack", help="find and store faces")
    pack.add_argument("--data", type=Path, required=True, metavar="DIR", help="real pictures and videos")
    pack.add_argument("--out", type=Path, default=PACK, metavar="FILE", help=f"default {PACK}")
    pack.add_argument("--frames", type=int, default=24, help="of each video (default 24)")
    pack.add_argument("--reserved", default="01", help="first digits of sha256 left out (default 01)")
    given = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    try:
        pack_folder(given.data, given.out, given.reserved, given.frames)
    except RecipeError as error:
        print(f"python -m train.faces: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
