"""Pairs of a real clip and a manipulated one, for detectors that look at time.

    python -m train.clips pack --data DIR [--out FILE] [--length 40] [--clips 2]

finds the main face of real videos and stores runs of consecutive margin crops with landmarks in one file. Fakes are
made on the fly: self-blended frame by frame with their own motion (preprocessing/blending/clips.py), or swapped and
reenacted (preprocessing/blending/swap_families.py).
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from detectors.base import Detector
from preprocessing.blending import BlendError, sample_rng
from preprocessing.blending.clips import CLIP_FAMILIES, FaceClip, FakeStream, blend_stream
from preprocessing.blending.rendered import RENDERED, rendered_stream
from preprocessing.blending.swap_families import FAMILIES, needs_donor, swap_stream
from preprocessing.inputs import ClipInput
from preprocessing.landmarks import flip_points, to_81
from train import faces as packs
from train import leaks
from train.clip_crop import ClipCrop
from train.clip_pack import PACK, STORED_MARGIN, ClipPack, pack_videos, split
from train.leak_sides import of_clips
from train.moving_stills import Stills, mirrored, moving_still
from train.real_faces import packed
from train.recipe import DataSplits, EpochDataset, Recipe, RecipeError
from train.shared_settings import ChangeSettings

TRIES = 5
"""Clips that are tried, one after another, where nothing can be blended."""
UNCOUNTED = -1.0
"""Frame label of a frame that repeats the last one of a short clip."""
SHORTEST_PART = 1 / 3
"""Of a clip, the least that is manipulated where only a part is."""
DONOR_FRAMES = 8
"""Pictures of another person that a swap chooses from."""
KNOWN = (*CLIP_FAMILIES, *FAMILIES, *RENDERED)


class Settings(ChangeSettings):
    """Which clips, which manipulations, and what is done to real and fake alike."""

    pack: Path | None = Field(default=None, description=f"packed clips; default {PACK}, made from --data")
    families: dict[str, float] = Field(
        default=dict.fromkeys(CLIP_FAMILIES, 1.0), description="odds of the families of manipulations"
    )
    hold_out: tuple[str, ...] = Field(default=(), description="families that are left out whatever their odds")
    partial: float = Field(default=0.0, ge=0, le=1, description="odds that only a part of the frames is manipulated")
    short: bool = Field(
        default=False, description="shorter clips too: the last frame is repeated and does not count; else left out"
    )
    windows: int = Field(default=1, ge=1, description="pairs made of each clip in an epoch")
    face_sides: tuple[float, float] = Field(default=(48, 192), description="pixels that faces are brought down to")
    stills: float = Field(default=0.0, ge=0, le=1, description="odds of a still under a moving camera for a real clip")
    faces: Path | None = Field(default=None, description=f"pack of these stills; default {packs.PACK}")
    held_out: float = Field(default=0.15, gt=0, lt=1, description="share of the people and sources that validate")
    validation_items: int = Field(default=200, ge=1, description="pairs in validation, at most")
    allow_leaks: bool = Field(default=False, description=leaks.ALLOW)

    @model_validator(mode="after")
    def _some_known_family(self) -> Settings:
        for name in (*self.families, *self.hold_out):
            if name not in KNOWN:
                near = difflib.get_close_matches(name, KNOWN, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(KNOWN)}"
                raise ValueError(f"there is no family {name!r} of manipulated clips: {hint}")
        if min(self.families.values(), default=0) < 0 or not self.odds:
            raise ValueError("families needs odds of at least 0, one of them above 0 that is not held out")
        return self

    @model_validator(mode="after")
    def _some_family_of_stills(self) -> Settings:
        if self.stills and not self.still_odds:
            raise ValueError("stills can be blended and swapped, and families has reenactments only")
        return self

    @property
    def still_odds(self) -> dict[str, float]:
        """Those of them that can be made of a face without expressions to follow."""
        return {name: odds for name, odds in self.odds.items() if name not in FAMILIES or needs_donor(name)}

    @property
    def odds(self) -> dict[str, float]:
        """The families that can be drawn."""
        return {name: odds for name, odds in self.families.items() if odds > 0 and name not in self.hold_out}


class ClipPairs(EpochDataset):
    """Item: `inputs` (2, length, size, size, 3) uint8, a real clip and a manipulated copy; `label` 0 and 1; `mask`
    (2, length, size, size) before the blend ratio; `frame_label` (2, length): 1 in manipulated frames, -1 in those that
    repeat the last of a short clip; `source` twice the clip's number.

    Fakes move in every frame of the run, also where the detector sees each stride-th only. Crops follow the landmarks
    of the real frames in both.
    """

    def __init__(
        self,
        pack: ClipPack,
        rows: NDArray[np.int64],
        spec: ClipInput,
        settings: Settings,
        seed: int,
        stills: Stills | None = None,
    ) -> None:
        """Raises RecipeError where a family shows another person and all clips are of one."""
        self.pack, self.rows, self.spec, self.settings, self.seed, self.stills = (
            pack,
            rows,
            spec,
            settings,
            seed,
            stills,
        )
        sources = pack.source[rows]
        if (
            stills is None
            and len(np.unique(sources)) < 2
            and any(name in FAMILIES and needs_donor(name) for name in settings.odds)
        ):
            raise RecipeError("swap families show another person, and all clips are of one: hold them out")

    def __len__(self) -> int:
        return len(self.rows) * self.settings.windows

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = sample_rng(self.seed, self.epoch, index)
        place = index % len(self.rows)
        for left in reversed(range(TRIES)):
            try:
                return self._item(int(self.rows[place]), rng)
            except BlendError:
                if not left:
                    raise
                place = int(rng.integers(len(self.rows)))
        raise AssertionError("unreachable")

    def _item(self, row: int, rng: np.random.Generator) -> dict[str, Any]:
        chosen, length = self.settings, self.spec.length
        flipped = bool(rng.random() < chosen.flip)
        span = (length - 1) * self.spec.stride + 1
        if self.stills is not None and rng.random() < chosen.stills:
            clip, stream = self._of_still(self.stills, span, flipped, rng)
        else:
            there = self.pack.frames(row)
            span = min(span, there)
            start = int(rng.integers(there - span + 1))
            clip = self._clip(row, range(start, start + span), flipped)
            stream = self._fake(row, clip, flipped, rng)
        shown = range(0, span, self.spec.stride)
        first, last = 0, len(shown)
        if rng.random() < chosen.partial:
            run = int(rng.integers(max(round(SHORTEST_PART * last), 1), last + 1))
            first = int(rng.integers(last - run + 1))
            last = first + run
        empty = np.zeros(clip.frames[0].shape[:2], np.float32)
        fakes = [
            stream.frame(index) if first <= number < last else (clip.frames[index], empty)
            for number, index in enumerate(shown)
        ]
        crop = ClipCrop.draw(rng, self.spec.face, chosen, clip.landmarks)
        points = [clip.landmarks[index] for index in shown]
        real = crop.images([clip.frames[index] for index in shown], points)
        fake = crop.images([image for image, _ in fakes], points)
        masks = [crop.mask(mask, points[n], seen=first <= n < last) for n, (_, mask) in enumerate(fakes)]
        frame_label = np.zeros((2, length), np.float32)
        frame_label[1, first:last] = 1
        frame_label[:, len(shown) :] = UNCOUNTED
        # A short clip repeats its last frame.
        order = np.minimum(np.arange(length), len(shown) - 1)
        mask = np.stack(masks)[order]
        return {
            "inputs": np.stack([np.stack(real)[order], np.stack(fake)[order]]),
            "label": np.array([0, 1], np.float32),
            "mask": np.stack([np.zeros_like(mask), mask]),
            "frame_label": frame_label,
            "source": np.full(2, row, np.int64),
        }

    def _clip(self, row: int, indices: range | list[int], flipped: bool) -> FaceClip:
        frames = [self.pack.image(row, index) for index in indices]
        points = to_81(self.pack.landmarks(row)[list(indices)])
        if flipped:
            points = np.stack([flip_points(p, f.shape[1]) for p, f in zip(points, frames, strict=True)])
            frames = [cv2.flip(frame, 1) for frame in frames]
        return FaceClip(frames, points)

    def _fake(self, row: int, clip: FaceClip, flipped: bool, rng: np.random.Generator) -> FakeStream:
        family = _drawn(self.settings.odds, rng)
        if family in CLIP_FAMILIES:
            return blend_stream(clip, family, rng)
        if family in RENDERED:
            return rendered_stream(clip, family, rng)
        if not needs_donor(family):
            return swap_stream(clip, family, rng)
        others = self.rows[self.pack.source[self.rows] != self.pack.source[row]]
        if self.stills is not None and (not len(others) or rng.random() < 0.5):
            image, points, _ = self.stills.draw(rng)
            image, points = mirrored(image, points, flipped)
            return swap_stream(clip, family, rng, FaceClip([image], points[None]))
        other = int(others[int(rng.integers(len(others)))])
        indices = np.unique(np.linspace(0, self.pack.frames(other) - 1, DONOR_FRAMES).round().astype(int)).tolist()
        return swap_stream(clip, family, rng, self._clip(other, indices, flipped))

    def _of_still(
        self, stills: Stills, span: int, flipped: bool, rng: np.random.Generator
    ) -> tuple[FaceClip, FakeStream]:
        image, points, source = stills.draw(rng)
        clip = moving_still(*mirrored(image, points, flipped), span, rng)
        family = _drawn(self.settings.still_odds, rng)
        if family in CLIP_FAMILIES:
            return clip, blend_stream(clip, family, rng)
        if family in RENDERED:
            return clip, rendered_stream(clip, family, rng)
        other, there, _ = stills.draw(rng, unlike=source)
        other, there = mirrored(other, there, flipped)
        return clip, swap_stream(clip, family, rng, FaceClip([other], there[None]))


def _drawn(odds: dict[str, float], rng: np.random.Generator) -> str:
    values = np.array(list(odds.values()))
    return list(odds)[int(rng.choice(len(odds), p=values / values.sum()))]


def build(settings: Settings, recipe: Recipe, detector: Detector, data: Path | None) -> DataSplits:
    """Training and validation pairs, no person or source in both; the pack is made from `data` where it is missing.

    Raises:
        RecipeError: a detector of other input, no pack and no folder, or clips that are all too short.
        LeakError: both sides share a picture.
    """
    spec = detector.input
    if not isinstance(spec, ClipInput):
        raise RecipeError(
            f"recipe {recipe.name}: data.kind clips gives clips of face crops, and {recipe.detector} takes"
            f" {type(spec).__name__}"
        )
    path = data if data is not None and data.is_file() else settings.pack or PACK
    if not path.exists():
        if data is None or data.is_file():
            raise RecipeError(f"there is no pack {path}: give the folder with real videos by --data DIR")
        pack_videos(data, path)
    pack = ClipPack.load(path)
    wanted = (spec.length - 1) * spec.stride + 1
    lengths = np.array([pack.frames(row) for row in range(len(pack))])
    usable = np.arange(len(pack)) if settings.short else np.flatnonzero(lengths >= wanted)
    if not len(usable):
        raise RecipeError(
            f"{recipe.detector} looks at {wanted} consecutive frames, and the longest clip of {path} has"
            f" {lengths.max()}: pack with --length {wanted}, or set data.settings.short=true"
        )
    if spec.face.margin > STORED_MARGIN:
        raise RecipeError(
            f"clips are stored with margin {STORED_MARGIN:g}, less than config.margin {spec.face.margin:g}"
        )
    train, validation = split(pack, usable, settings.held_out, recipe.seed)
    faces, clip_of = of_clips(pack, path)
    rows = [np.flatnonzero(np.isin(clip_of, part)) for part in (train, validation)]
    report = leaks.check_rows(faces, rows[0], rows[1], settings.allow_leaks)
    summary = {
        "pack": path.name,
        "pack_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "clips": len(pack),
        "too short": len(pack) - len(usable),
        "train_clips": len(train),
        "train_sources": len(np.unique(pack.source[train])),
        "validation_sources": len(np.unique(pack.source[validation])),
        "families": settings.odds,
        "held out": sorted(settings.hold_out),
        **report.summary(),
    }
    still, judged = _stills(settings, recipe, summary, set(pack.source[train]), set(pack.source[validation]))
    return DataSplits(
        ClipPairs(pack, train, spec, settings, recipe.seed, still),
        ClipPairs(pack, validation[: settings.validation_items], spec, settings, recipe.seed + 1, judged),
        summary,
    )


def _stills(
    settings: Settings, recipe: Recipe, summary: dict[str, Any], trained: set[str], judged: set[str]
) -> tuple[Stills, Stills] | tuple[None, None]:
    """Stills to train and to validate with, no person of the one side's clips among the other side's stills."""
    if not settings.stills:
        return None, None
    chosen = packs.Settings(held_out=settings.held_out)
    faces, train, validation, told = packed(settings.faces or packs.PACK, None, chosen, recipe.seed)
    sides = [
        np.array([row for row in rows.tolist() if faces.sources[row] not in others], np.int64)
        for rows, others in ((train, judged), (validation, trained))
    ]
    summary["stills"] = {**told, "train": len(sides[0]), "validation": len(sides[1])}
    if min(len(rows) for rows in sides) == 0:
        raise RecipeError(f"the pack {told['pack']} has no people for stills beside those of the clips")
    return Stills(faces, sides[0]), Stills(faces, sides[1])


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 packed, 2 usage."""
    parser = argparse.ArgumentParser(prog="python -m train.clips", description="Pack real clips for training.")
    pack = parser.add_subparsers(required=True).add_parser("pack", help="find and store clips of faces")
    pack.add_argument("--data", type=Path, required=True, metavar="DIR", help="real videos")
    pack.add_argument("--out", type=Path, default=PACK, metavar="FILE", help=f"default {PACK}")
    pack.add_argument("--length", type=int, default=40, help="frames of a clip, at most (default 40)")
    pack.add_argument("--shortest", type=int, default=25, help="frames of a clip, at least (default 25)")
    pack.add_argument("--clips", type=int, default=2, help="of each video, at most (default 2)")
    pack.add_argument("--reserved", default="01", help="first digits of sha256 left out (default 01)")
    given = parser.parse_args(arguments)
    if not 2 <= given.shortest <= given.length or given.clips < 1:
        parser.error("--length is at least --shortest, which is at least 2, and --clips at least 1")
    cv2.setNumThreads(1)
    try:
        pack_videos(given.data, given.out, given.length, given.shortest, given.clips, given.reserved)
    except RecipeError as error:
        print(f"python -m train.clips: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
