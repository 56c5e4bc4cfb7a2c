"""Few fakes among many real videos: trains the dual-level network at several ratios and measures each on one full test
set (Pu et al., Pattern Recognition 130, 2022, the imbalance sweep and the loss ablation).

The published test sets were thinned too, to 17 fakes at 1:10 and to none at 1:200: an AUC of so few says nothing. Here
only training is thinned, and the best epoch is chosen on videos that are neither trained on nor tested.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detectors.base import Detector
from detectors.methods.dual_level import PADDED, pad_clip
from preprocessing.crops import face_input
from preprocessing.inputs import ClipInput
from train import leaks
from train.imbalance import thin_fakes
from train.leak_sides import of_prepared
from train.loop import train
from train.metrics import Estimate, summary
from train.packs import fraction
from train.prepare import PreparedSet, PrepareError
from train.recipe import DataSplits, EpochDataset, Recipe, RecipeError, create_detector, load_recipe
from train.reproduce.media import short
from train.reproduce.protocol import Protocol, Row
from train.reproduce.run import Choice, figure_name
from train.reproduce.sheet import ReproduceError, Sheet, judged

HELD_OUT = 0.1
"""Share of the training videos that choose the epoch, where the set has no split val."""


@dataclass(frozen=True)
class Clip:
    """A video of the set, and the rows of its face crops in order."""

    video: str
    label: int
    rows: list[int]


class PreparedClips(EpochDataset):
    """An item is one video of a prepared set: its first crops, every `stride`-th, the last repeated where there are
    fewer. `frame_label` (1, length) is the video's label, -1 in repeated frames; `source` the video's number."""

    def __init__(self, data: PreparedSet, clips: Sequence[Clip], spec: ClipInput) -> None:
        self.data, self.clips, self.spec = data, list(clips), spec
        self.labels = np.array([clip.label for clip in clips], np.float32)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.clips[index]
        crops = []
        for row in clip.rows[:: self.spec.stride][: self.spec.length]:
            sample = self.data[row]
            crops.append(face_input(sample.image, (0, 0), sample.in_crop(sample.landmarks), self.spec.face))
        inputs, there = pad_clip(np.stack(crops), self.spec.length)
        return {
            "inputs": inputs[None],
            "label": np.array([clip.label], np.float32),
            "frame_label": np.where(there, clip.label, PADDED).astype(np.float32)[None],
            "source": np.array([index], np.int64),
        }


def sweep(protocol: Protocol, choice: Choice, sheet: Sheet) -> None:
    """Trains and measures every row. Raises ReproduceError where the data is no prepared set that can be used."""
    if choice.weights is not None:
        raise ReproduceError(f"{protocol.name} trains its own networks: leave out --weights")
    data = _opened(protocol, choice)
    with tempfile.TemporaryDirectory() as scratch:
        runs = choice.save or Path(scratch)
        for done, row in enumerate(protocol.rows):
            choice.told(row.name, done, len(protocol.rows))
            recipe = _recipe(protocol, row, choice)
            torch.manual_seed(recipe.seed)
            detector = create_detector(recipe)
            assert isinstance(detector.input, ClipInput)
            _fits(data, detector.input, choice)
            if not done:
                shared = leaks.check(*of_prepared(data), allow=True)
                sheet.notes += [f"allowed, as published: {shared}"] if shared.leaks else []
                sheet.weights = f"trained here by recipe {recipe.name}, {recipe.epochs} epochs, seed {recipe.seed}"
            _row(protocol, row, recipe, detector, data, runs, choice, sheet)


def _row(
    protocol: Protocol, row: Row, recipe: Recipe, detector: Detector, data: PreparedSet, runs: Path, choice: Choice,
    sheet: Sheet,
) -> None:  # fmt: skip
    spec = detector.input
    assert isinstance(spec, ClipInput)
    training, validation, test = (limited(clips, choice.limit) for clips in parts(data, recipe.seed))
    told, figures, missing = "nothing", {}, ""
    try:
        kept = thin_fakes(np.array([clip.label for clip in training]), row.ratio, recipe.seed)
    except ValueError as error:
        missing = f"data missing: {error}"
    else:
        thinned = [training[i] for i in kept.tolist()]
        told = f"trained on {_count(thinned)}, tested on {_count(test)} videos"
        splits = DataSplits(
            PreparedClips(data, thinned, spec), PreparedClips(data, validation, spec), {"trained": told}
        )
        folder = runs / "".join(letter if letter.isalnum() else "-" for letter in row.name)
        resume = (folder / "last.pt").is_file()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            best = train(detector, splits, recipe, folder, resume=resume, device=device).detector
        except RecipeError as error:
            raise ReproduceError(f"{protocol.name}, {row.name}: {error}") from error
        figures = measured(best, PreparedClips(data, test, spec))
        missing = _otherwise(protocol, data, test, choice)
    for figure, published in row.published.items():
        ours = figures.get(row.level or protocol.level)
        sheet.lines.append(judged(row.name, figure_name(protocol, row.level, figure), published, ours, told, missing))


def _otherwise(protocol: Protocol, data: PreparedSet, test: Sequence[Clip], choice: Choice) -> str:
    """What was done otherwise than published, so that no figure counts as reproduced; "" where nothing."""
    assert protocol.tested is not None
    found = []
    others = {video.item.dataset for video in data.videos} - {protocol.tested.dataset}
    if others:
        found.append(f"another data set: {', '.join(sorted(others))}")
    if short([sum(clip.label == label for clip in test) for label in (0, 1)], protocol.tested):
        found.append(f"only part of the published test set: {_count(test)}")
    if choice.overrides:
        found.append(f"trained otherwise: {' '.join(choice.overrides)}")
    return "; ".join(found)


def measured(detector: Detector, data: PreparedClips) -> dict[str, Estimate]:
    """The AUC of the video head, and that of the frame head over all frames that are no repetition; intervals resample
    videos."""
    videos: list[float] = []
    frames: list[NDArray[np.float64]] = []
    detector.eval()
    with torch.inference_mode():
        for index in range(len(data)):
            item = data[index]
            output = detector(detector.prepare(item["inputs"]))
            videos.append(float(torch.sigmoid(output.logit.double())))
            assert output.frame_logit is not None
            there = item["frame_label"][0] >= 0
            frames.append(torch.sigmoid(output.frame_logit[0].double()).cpu().numpy()[there])
    names = np.array([clip.video for clip in data.clips])
    each = [len(one) for one in frames]
    label = np.array([clip.label for clip in data.clips])
    labels, clusters = np.repeat(label, each), np.repeat(names, each)
    return {
        "video": summary(label, videos, 0.5, names)["auc"],
        "frame": summary(labels, np.concatenate(frames), 0.5, clusters, resamples=200)["auc"],
    }


# --- the data


def _opened(protocol: Protocol, choice: Choice) -> PreparedSet:
    try:
        data = PreparedSet(choice.data[0])
    except PrepareError as error:
        raise ReproduceError(f"{error}. {protocol.name} needs {protocol.needs}") from error
    training, validation, test = parts(data, 1)
    for name, part in (("train", training), ("the part that chooses the epoch", validation), ("test", test)):
        if {clip.label for clip in part} != {0, 1}:
            raise ReproduceError(f"{choice.data[0]}: {name} has {_count(part)}: both are needed; {protocol.needs}")
    return data


def parts(data: PreparedSet, seed: int) -> tuple[list[Clip], list[Clip], list[Clip]]:
    """The videos to train on, to choose the epoch by, and to test on; the second is the set's split val, or a part of
    its split train drawn from each class by `seed`."""
    by_split: dict[str, list[Clip]] = {"train": [], "val": [], "test": []}
    for clip, split in _clips(data):
        by_split.setdefault(split, []).append(clip)
    training, validation = by_split["train"], by_split["val"]
    if not validation:
        for label in (0, 1):
            own = sorted((c for c in training if c.label == label), key=lambda c: fraction(f"{seed}/{c.video}"))
            validation += own[: max(round(HELD_OUT * len(own)), 1)] if len(own) > 1 else []
        training = [clip for clip in training if clip not in validation]
    return training, validation, by_split["test"]


def _clips(data: PreparedSet) -> list[tuple[Clip, str]]:
    rows: dict[str, list[int]] = {}
    about = {}
    for row in np.flatnonzero(np.isfinite(data.landmarks).all(axis=(1, 2))).tolist():
        video = data.video(row)
        rows.setdefault(video.key, []).append(row)
        about[video.key] = video.item
    # Samples are sorted by their keys: video, frame, track.
    return [(Clip(key, about[key].label, rows[key]), about[key].split) for key in sorted(rows)]


def limited(clips: list[Clip], limit: int | None) -> list[Clip]:
    """At most `limit` of each class."""
    if limit is None:
        return clips
    return [clip for label in (0, 1) for clip in [c for c in clips if c.label == label][:limit]]


def _fits(data: PreparedSet, spec: ClipInput, choice: Choice) -> None:
    made = data.made_by["settings"]
    if made["faces"] != "main":
        raise ReproduceError(f"{choice.data[0]} has several people of a video: prepare it with --faces main")
    margin = float(made["margin"])
    if margin < spec.face.margin:
        raise ReproduceError(
            f"{choice.data[0]} was prepared with --margin {margin:g}, and the network looks at {spec.face.margin:g}:"
            " prepare it with a larger one"
        )


def _recipe(protocol: Protocol, row: Row, choice: Choice) -> Recipe:
    own = [f"config.loss={row.loss}"]
    if row.minimum is not None:
        own.append(f"sampling.minimum={row.minimum}")
    try:
        # An item of the recipe's own data is a pair of videos, here one video.
        return load_recipe(protocol.recipe, ["batch=16", *choice.overrides, *own])
    except RecipeError as error:
        raise ReproduceError(str(error)) from error


def _count(clips: Sequence[Clip]) -> str:
    return f"{sum(not clip.label for clip in clips)} real, {sum(clip.label for clip in clips)} fake"
