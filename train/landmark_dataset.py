"""Clips of landmark sequences for LRNet, from the folder that train/landmark_data.py fills."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from detectors.base import Detector
from detectors.methods.lrnet import LRNet, clips
from preprocessing.calibration import SIDE
from preprocessing.inputs import LandmarkInput
from preprocessing.landmarks import FLIP_ORDER
from preprocessing.settings import Strict
from train import leaks
from train.packs import BROKEN
from train.recipe import DataSplits, EpochDataset, Recipe, RecipeError


class Settings(Strict):
    """How many clips an epoch draws and how far they are changed. A real clip and its fakes get the same change."""

    windows: int = Field(default=8, ge=1, description="clips drawn from each view and epoch")
    stretch: float = Field(default=0.08, ge=0, lt=0.5, description="largest change of size, a share")
    shift: float = Field(default=0.06, ge=0, le=0.5, description="largest shift, a share of the square")
    turn: float = Field(default=8.0, ge=0, le=45, description="largest turn in the picture plane, degrees")
    reverse: float = Field(default=0.3, ge=0, le=1, description="odds that a clip runs backwards")
    transplant: float = Field(default=0.5, ge=0, le=1, description="odds that a real clip gets another face's jitter")
    allow_leaks: bool = Field(default=False, description=leaks.ALLOW)
    gain: float = Field(default=50.0, gt=0, description="factor on the motion stream's first weights before training")


@dataclass(frozen=True)
class Sequences:
    """One view of one video: rows (N, 136) int16 of the 400 x 400 square, real and manipulated."""

    video: str
    real: NDArray[np.int16]
    fakes: tuple[NDArray[np.int16], ...]


class TrainingClips(EpochDataset):
    """An item is a real clip and a fake of it at the same moment, changed alike.

    The fake is one of its view's, or the real clip with the jitter that a manipulation caused on another face: the
    difference of that face's fake and real landmarks, its mean over time taken out. There are few people to learn
    from, and this way each of them meets every jitter.
    """

    def __init__(self, views: list[Sequences], length: int, settings: Settings, seed: int) -> None:
        self.views, self.length, self.settings, self.seed = views, length, settings, seed
        self._jitter = [
            fake.astype(np.float64) - view.real for view in views for fake in view.fakes if len(fake) == len(view.real)
        ]

    def __len__(self) -> int:
        return len(self.views) * self.settings.windows

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, self.epoch, index])
        view = self.views[index % len(self.views)]
        if self._jitter and rng.random() < self.settings.transplant:
            (real,) = self._window(rng, view.real)
            fake = transplanted(real, self._window(rng, self._jitter[int(rng.integers(len(self._jitter)))])[0], rng)
        else:
            real, fake = self._window(rng, view.real, view.fakes[int(rng.integers(len(view.fakes)))])
        both = np.stack([real, fake])
        return {"inputs": augment(both, rng, self.settings), "label": np.array([0, 1], np.float32)}

    def _window(self, rng: np.random.Generator, *sequences: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """The same random run of `length` rows of each."""
        start = int(rng.integers(min(map(len, sequences)) - self.length + 1))
        return tuple(rows[start : start + self.length] for rows in sequences)


class ValidationClips(EpochDataset):
    """All clips of all views, one after another as an analysis cuts them, unchanged."""

    def __init__(self, views: list[Sequences], length: int) -> None:
        self._items = [
            (clip, np.float32(label))
            for view in views
            for label, rows in ((0, view.real), *((1, fake) for fake in view.fakes))
            for clip in clips(_unit(rows), length)
        ]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip, label = self._items[index]
        return {"inputs": clip[None], "label": np.array([label])}


def transplanted(real: NDArray[np.int16], jitter: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int16]:
    """`real` rows (T, 136) with another face's `jitter` (T, 136), at times mirrored, 0.7 to 1.4 times as strong."""
    points = (jitter - jitter.mean(axis=0)).reshape(-1, 68, 2)
    if rng.random() < 0.5:
        points = points[:, FLIP_ORDER[:68]] * (-1, 1)
    return np.rint(real + rng.uniform(0.7, 1.4) * points.reshape(real.shape)).astype(np.int16)


def augment(rows: NDArray[np.int16], rng: np.random.Generator, settings: Settings) -> NDArray[np.float32]:
    """(k, T, 136) whole pixels to LRNet's normalised space, mirrored, resized, shifted, turned, reversed at random.

    The result is rounded to whole pixels again: calibrated landmarks always are, and what jitters by less is not seen.
    """
    points = rows.reshape(*rows.shape[:2], 68, 2).astype(np.float64) - SIDE / 2
    if rng.random() < 0.5:
        points = points[:, :, FLIP_ORDER[:68]] * (-1, 1)
    if rng.random() < settings.reverse:
        points = points[:, ::-1]
    angle = np.radians(rng.uniform(-settings.turn, settings.turn))
    factor = 1 + rng.uniform(-settings.stretch, settings.stretch)
    cos, sin = factor * np.cos(angle), factor * np.sin(angle)
    points = points @ np.array([[cos, sin], [-sin, cos]]) + rng.uniform(-settings.shift, settings.shift, 2) * SIDE
    return (np.rint(points) / (SIDE / 2)).astype(np.float32).reshape(rows.shape)


def _unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    return ((rows - SIDE / 2) / (SIDE / 2)).astype(np.float32)


def build(settings: Settings, recipe: Recipe, detector: Detector, data: Path | None) -> DataSplits:
    """The clips of the sequences in `data`, split as train/landmark_data.py split their videos.

    Raises:
        RecipeError: a detector of other input, no sequences or none to validate on, or some of another extractor or box
            spacing.
        LeakError: both sides show a video's face.
    """
    spec = detector.input
    if not isinstance(detector, LRNet) or not isinstance(spec, LandmarkInput):
        raise RecipeError(f"recipe {recipe.name}: this data is for lrnet, not for {recipe.detector}")
    files = sorted(data.glob("*.npz")) if data is not None else []
    if not files:
        raise RecipeError(
            f"recipe {recipe.name}: no landmark sequences in {data}; make them with"
            " python -m train.landmark_data --data DIR --out SEQUENCES and give --data SEQUENCES"
        )
    if recipe.backbone is None:
        _widen(detector, settings.gain)
    views: dict[str, list[Sequences]] = {"train": [], "validation": []}
    shown: dict[str, dict[str, list[str]]] = {name: defaultdict(list) for name in views}
    lost = 0
    for file in files:
        made, view = _read(file, spec)
        if view is None or len(view.real) < spec.length or not view.fakes:
            lost += 1
        else:
            views[made["split"]].append(view)
            for video in (view.video, *_givers(made)):
                shown[made["split"]][video].append(file.name)
    if not all(views.values()):
        raise RecipeError(
            f"recipe {recipe.name}: {data} has {len(views['train'])} views to train on, {len(views['validation'])} to"
            f" validate on, and {lost} left out because the face was lost: make sequences of more people's videos with"
            " python -m train.landmark_data, in a new folder"
        )
    report = _compared(shown, settings.allow_leaks)
    summary = {
        "views": {name: dict(sorted(Counter(v.video for v in found).items())) for name, found in views.items()},
        "frames": {name: sum(len(v.real) for v in found) for name, found in views.items()},
        "views left out because the face was lost": lost,
        **report.summary(),
    }
    return DataSplits(
        TrainingClips(views["train"], spec.length, settings, recipe.seed),
        ValidationClips(views["validation"], spec.length),
        summary,
    )


@torch.no_grad()
def _widen(detector: LRNet, gain: float) -> None:
    """Motions are thousandths of the square: with the usual initial weights a GRU hardly sees them and stays linear,
    and what is linear in jitter has no mean. Trained weights have learned their own."""
    for name, weight in detector.g2.named_parameters():
        if "weight_ih" in name:
            weight.mul_(gain)


def _givers(made: dict[str, Any]) -> list[str]:
    """Other videos whose faces a view's fakes show."""
    return [how["giver"] for name, how in made.items() if name.startswith("fake") and how.get("giver")]


def _compared(shown: dict[str, dict[str, list[str]]], allow: bool) -> leaks.Report:
    """By the names of the videos: {side: {video: files that show its face}}. Raises LeakError."""
    ours, theirs = shown["train"], shown["validation"]
    found = []
    for video in sorted(ours.keys() & theirs.keys()):
        files = (ours[video][0], theirs[video][0])
        found.append(leaks.Leak("source", ("train", "validation"), video, files, len(ours[video] + theirs[video])))
    sizes = {side: len({file for files in videos.values() for file in files}) for side, videos in shown.items()}
    report = leaks.Report(sizes, found, allow and bool(found))
    if found and not allow:
        raise leaks.LeakError(
            report,
            "Make all sequences with one python -m train.landmark_data, in a new folder, or say --allow-leaks"
            " (data.settings.allow_leaks=true) and call the figures optimistic",
        )
    return report


def _read(file: Path, spec: LandmarkInput) -> tuple[dict[str, Any], Sequences | None]:
    """Raises RecipeError."""
    try:
        return _parts(file, spec)
    except RecipeError:
        raise
    except BROKEN as error:
        raise RecipeError(
            f"{file} holds no landmark sequences of train.landmark_data, or not all of them: {error}"
        ) from error


def _parts(file: Path, spec: LandmarkInput) -> tuple[dict[str, Any], Sequences | None]:
    with np.load(file) as stored:
        made = json.loads(str(stored["made"]))
        for key in ("extractor", "box_every"):
            if made[key] != getattr(spec, key):
                raise RecipeError(f"{file} was made with {key} {made[key]}, the detector expects {getattr(spec, key)}")
        fakes = tuple(stored[name] for name in sorted(stored.files) if name.startswith("fake"))
        if "real" not in stored:
            return made, None
        return made, Sequences(made["video"], stored["real"], tuple(f for f in fakes if len(f) >= spec.length))
