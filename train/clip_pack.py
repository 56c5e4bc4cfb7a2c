"""Runs of consecutive face crops with landmarks, found in real videos and stored in one file."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.crops import face_square
from preprocessing.errors import MediaError
from preprocessing.types import Frame, Image, Points, Track
from train.faces import SMALLEST_FACE
from train.fingerprints import joined, perceptual_hash
from train.packs import BROKEN, VIDEOS, Stored, encoded, held_out, in_one, media_files, person_of, picture, unreserved
from train.recipe import RecipeError

PACK = Path(".local/train/clips.npz")
STORED_MARGIN = 2.0
"""Side of a stored crop over the longer side of the landmark box."""
STORED_SIDE = 224
"""Pixels; clips with larger crops are shrunk, all frames by one factor."""
LONGEST_SIDE = 1280
"""Pixels of a frame that faces are looked for in; larger frames are shrunk first."""
QUALITY = 92
"""Of the stored JPEGs."""
LOOKED_AT = 8
"""Frames of a clip that are compared with others'."""


@dataclass(frozen=True)
class ClipPack(Stored):
    """Stored clips: JPEG crops, `ends` (F,) of each in `jpegs`, `points` (F, 68, 2) in their pixels; `clip_ends` (N,)
    in frames; `source` (the person or the video), `dataset` and `sha256` (of the video) of each clip, (N,)."""

    maker: ClassVar[str] = "python -m train.clips pack"
    jpegs: NDArray[np.uint8]
    ends: NDArray[np.int64]
    points: Points
    clip_ends: NDArray[np.int64]
    source: NDArray[np.str_]
    dataset: NDArray[np.str_]
    sha256: NDArray[np.str_]

    @staticmethod
    def is_in(path: Path) -> bool:
        """Whether the file is a pack of clips, not of single faces. Raises RecipeError where it is no .npz."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                return "clip_ends" in stored
        except BROKEN as error:
            raise RecipeError(f"{path} is no pack of faces or clips: {error}") from error

    def __len__(self) -> int:
        return len(self.clip_ends)

    def _first(self, clip: int) -> int:
        return int(self.clip_ends[clip - 1]) if clip else 0

    def frames(self, clip: int) -> int:
        """How many frames a clip has."""
        return int(self.clip_ends[clip]) - self._first(clip)

    def landmarks(self, clip: int) -> Points:
        """(T, 68, 2), each in its own crop's pixels."""
        return self.points[self._first(clip) : self.clip_ends[clip]]

    def image(self, clip: int, index: int) -> Image:
        """(H, W, 3) RGB; crops of one clip may differ in size."""
        return picture(self.jpegs, self.ends, self._first(clip) + index)

    def looked_at(self, clip: int) -> list[int]:
        """At most LOOKED_AT of its frames, evenly spread."""
        return np.unique(np.linspace(0, self.frames(clip) - 1, LOOKED_AT).round().astype(int)).tolist()


@dataclass(frozen=True)
class StoredClip:
    """One clip on its way into a pack: JPEGs and landmarks (T, 68, 2)."""

    jpegs: list[bytes]
    points: Points


def split(
    pack: ClipPack, usable: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of the `usable` clips those to train on and those to validate on, no source in both; by the hash of the source,
    so that adding clips moves nobody from one to the other."""
    held = held_out(pack.source[usable], share, seed)
    return usable[~held], usable[held]


def join(clips: list[StoredClip], source: list[str], dataset: list[str], sha256: list[str]) -> ClipPack:
    """One pack of them all."""
    return ClipPack(
        *in_one([data for clip in clips for data in clip.jpegs]),
        np.concatenate([clip.points for clip in clips]).astype(np.float32),
        np.cumsum([len(clip.jpegs) for clip in clips]).astype(np.int64),
        np.array(source),
        np.array(dataset),
        np.array(sha256),
    )


def store_clip(images: list[Image], landmarks: Points) -> StoredClip | None:
    """Margin crops of consecutive pictures of one face, landmarks (T, 68, 2) in their pixels; None: too small, or
    mostly outside a picture.

    Crops are cut at whole pixels around each frame's face and shrunk by one factor, so nothing flickers.
    """
    squares = [face_square(points, STORED_MARGIN) for points in landmarks]
    largest = max(side for _, _, side in squares)
    if min(side for _, _, side in squares) / STORED_MARGIN < SMALLEST_FACE:
        return None
    scale = min(STORED_SIDE / largest, 1.0)
    jpegs, moved = [], []
    for image, points, (x, y, side) in zip(images, landmarks, squares, strict=True):
        height, width = image.shape[:2]
        if ((points >= 0) & (points <= (width - 1, height - 1))).all(axis=1).mean() < 0.9:
            return None
        left, top = max(round(x - side / 2), 0), max(round(y - side / 2), 0)
        crop = image[top : round(y + side / 2) + 1, left : round(x + side / 2) + 1]
        factors = np.ones(2, np.float32)
        if scale < 1:
            size = (max(round(crop.shape[1] * scale), 1), max(round(crop.shape[0] * scale), 1))
            factors = np.array([size[0] / crop.shape[1], size[1] / crop.shape[0]], np.float32)
            crop = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
        jpegs.append(encoded(crop, QUALITY))
        moved.append((points - (left, top) + 0.5) * factors - 0.5)
    return StoredClip(jpegs, np.stack(moved).astype(np.float32))


def pack_videos(
    root: Path, out: Path, length: int = 40, shortest: int = 25, clips: int = 2, reserved: str = "01"
) -> ClipPack:
    """Find and store clips of the real videos under `root`, as an analysis finds faces; prints its progress.

    Where `root` has a manifest.csv, its rows of label real and split train are taken, else every video. Files whose
    sha256 begins with a digit of `reserved` are left out: they measure false positives. Memory holds `length` frames
    at a time, of at most LONGEST_SIDE pixels.

    Raises:
        RecipeError: no such folder, or no clip found.
    """
    from train.landmark_data import FaceReader

    videos = [(dataset, path) for dataset, path in media_files(root) if path.suffix.lower() in VIDEOS]
    reader = FaceReader()
    found: list[StoredClip] = []
    sources: list[str] = []
    datasets: list[str] = []
    shas: list[str] = []
    left: Counter[str] = Counter()
    for dataset, path, sha in unreserved(videos, reserved, left, found, "clips"):
        try:
            for run in _runs(path, length, clips):
                stored = _clip_of(run, reader.track(run), shortest)
                if isinstance(stored, str):
                    left[stored] += 1
                    continue
                found.append(stored)
                sources.append(person_of(dataset, path))
                datasets.append(dataset)
                shas.append(sha)
        except MediaError as error:
            left["unreadable"] += 1
            print(f"{path}: {error}", file=sys.stderr)
    if not found:
        raise RecipeError(f"no clip of a face was found in {len(videos)} videos under {root} ({dict(left)})")
    pack = with_joined_sources(join(found, sources, datasets, shas))
    pack.save(out)
    print(f"{len(pack)} clips of {len(videos)} videos in {out}; left out: {dict(left)}", file=sys.stderr)
    return pack


def with_joined_sources(pack: ClipPack) -> ClipPack:
    """The pack with sources that show the same picture as one."""
    clips, places = zip(*((clip, i) for clip in range(len(pack)) for i in pack.looked_at(clip)), strict=True)
    hashes = np.stack(
        [perceptual_hash(pack.image(c, i), pack.landmarks(c)[i]) for c, i in zip(clips, places, strict=True)]
    )
    named = joined(pack.source[list(clips)], hashes)
    first = np.searchsorted(np.array(clips), np.arange(len(pack)))
    return replace(pack, source=named[first])


def _clip_of(run: list[Frame], track: Track | None, shortest: int) -> StoredClip | str:
    """The stored clip of the longest unbroken piece of a track, or why there is none."""
    if track is None:
        return "without a face"
    pieces = np.split(np.arange(len(track)), np.flatnonzero(np.diff(track.frames) != 1) + 1)
    piece = max(pieces, key=len)
    if len(piece) < shortest:
        return "face in too few frames"
    images = {frame.index: frame.image for frame in run}
    stored = store_clip([images[int(track.frames[i])] for i in piece], track.landmarks[piece])
    return "too small or cut off" if stored is None else stored


def _runs(path: Path, length: int, clips: int) -> Iterator[list[Frame]]:
    """At most `clips` runs of at most `length` consecutive frames, evenly spread by the container's word on its length;
    the first run alone where it has none."""
    from preprocessing.media import open_media
    from train.prepare.sampling import plan_frames
    from train.prepare.settings import PrepareSettings

    with open_media(path) as media:
        total = media.info.frames or length
        plan = plan_frames(PrepareSettings(runs=(clips, min(length, max(total, 2)))), max(total, 2)).runs
        end = max(plan)
        held: list[Frame] = []
        for frame in media:
            if held and plan.get(frame.index) != plan[held[0].index]:
                yield held
                held = []
            if frame.index in plan:
                held.append(Frame(frame.index, frame.time, _smaller(frame.image)))
            elif frame.index > end:
                break
        if held:
            yield held


def _smaller(image: Image) -> Image:
    scale = LONGEST_SIDE / max(image.shape[:2])
    return image if scale >= 1 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
