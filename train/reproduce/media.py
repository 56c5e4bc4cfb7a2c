"""Videos and pictures of known data sets through the shipped pipeline, scored as a paper's protocol aggregates them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.bagging import majority_vote
from detectors.local import LocalStages
from detectors.store import LoadedDetector
from preprocessing.datasets import DatasetError, Item, index_dataset
from preprocessing.datasets.items import PICTURES
from preprocessing.settings import Settings, TrackingSettings
from train.labelled import Item as Labelled
from train.measure import RowStore, measure
from train.metrics import Estimate, summary
from train.reproduce.protocol import Aggregate, Data, Figure, Level, Protocol
from train.reproduce.run import Choice, figure_name
from train.reproduce.sheet import ReproduceError, Sheet, judged

ENOUGH = 0.95
"""Share of the published protocol's videos that must be there and have a score."""


@dataclass(frozen=True)
class Scored:
    """One video: its `label`, and its frame or clip probabilities (n,), n = 0 where no face was found."""

    label: int
    cluster: str
    scores: NDArray[np.float64]


def run(protocol: Protocol, networks: Sequence[LoadedDetector], choice: Choice, sheet: Sheet) -> None:
    """Adds a line for each figure; several networks vote.

    Raises ReproduceError where a root holds no data set that the protocol knows.
    """
    found = find_items(choice.data, protocol, sheet)
    chosen = [limited(select(found, row.data), choice.limit) if row.data else {} for row in protocol.rows]
    todo = {path: item for items in chosen for path, item in items.items()}
    each = [_scored(protocol, loaded, choice, todo) for loaded in networks]
    scored = each[0] if len(each) == 1 else {path: voted([one[path] for one in each], protocol) for path in todo}
    for row, items in zip(protocol.rows, chosen, strict=True):
        assert row.data is not None
        add_lines(protocol, row.name, row.published, row.level, row.data, [scored[path] for path in items], sheet)


def _scored(
    protocol: Protocol, loaded: LoadedDetector, choice: Choice, todo: Mapping[Path, Item]
) -> dict[Path, Scored]:
    """By one network."""
    tracking = TrackingSettings(samples=protocol.samples)
    settings = Settings(tracking=tracking, heatmaps=0, detectors=(loaded.detector.name,))
    stages = LocalStages({loaded.detector.name: loaded})
    store = RowStore(choice.save, stages, settings) if choice.save else None
    scored: dict[Path, Scored] = {}
    for done, (path, item) in enumerate(todo.items()):
        choice.told(protocol.name, done, len(todo))
        pictures = _pictures(path, protocol.samples) if path.is_dir() else [path]
        rows = [measure(Labelled(one, item.label), stages, settings, store) for one in pictures]
        scores = [score for row in rows for score in frame_scores(row, loaded.detector.name)]
        scored[path] = Scored(item.label, item.source or str(path), np.array(scores, np.float64))
    choice.told(protocol.name, len(todo), len(todo))
    return scored


def voted(members: Sequence[Scored], protocol: Protocol) -> Scored:
    """One video by what several networks say: its score is the majority's label; none where no network has one."""
    first = members[0]
    scores = [[aggregated(one.scores, protocol.aggregate) if len(one.scores) else np.nan] for one in members]
    if np.isnan(scores).all():
        return Scored(first.label, first.cluster, np.zeros(0))
    return Scored(first.label, first.cluster, majority_vote(np.array(scores)).label.astype(np.float64))


def add_lines(
    protocol: Protocol,
    name: str,
    published: Mapping[Figure, float | None],
    level: Level | None,
    wanted: Data,
    videos: Sequence[Scored],
    sheet: Sheet,
) -> None:
    """A line for each published figure of one row."""
    told, missing = coverage(videos, wanted)
    figures = estimates(videos, level or protocol.level, protocol.aggregate, protocol.threshold)
    for figure, number in published.items():
        sheet.lines.append(
            judged(name, figure_name(protocol, level, figure), number, figures.get(figure), told, missing)
        )


def frame_scores(row: dict[str, Any], detector: str) -> list[float]:
    """Probabilities of the face that is seen longest, also where they are out of the weights' domain."""
    if not row["faces"]:
        return []
    return [float(moment[-1]) for moment in row["faces"][0]["detectors"].get(detector, {}).get("frame_scores", [])]


def aggregated(scores: NDArray[np.float64], how: Aggregate) -> float:
    """One score of a video from those of its frames or clips (n,), n >= 1."""
    if how == "vote":
        return float((scores >= 0.5).mean())
    if how == "mean_logit":
        clipped = np.clip(scores, 1e-7, 1 - 1e-7)
        return float(1 / (1 + np.exp(-np.log(clipped / (1 - clipped)).mean())))
    if how == "top_third":
        return float(np.sort(scores)[-max(len(scores) // 3, 1) :].mean())
    return float(scores.mean())


def estimates(videos: Sequence[Scored], level: Level, how: Aggregate, threshold: float) -> dict[str, Estimate]:
    """Figures over videos, or over all their frames with intervals that resample videos."""
    seen = [video for video in videos if len(video.scores)]
    if not seen:
        return {}
    if level == "video":
        scores = [aggregated(video.scores, how) for video in seen]
        return summary([v.label for v in seen], scores, threshold, [v.cluster for v in seen])
    each = [len(video.scores) for video in seen]
    labels, clusters = np.repeat([v.label for v in seen], each), np.repeat([v.cluster for v in seen], each)
    return summary(labels, np.concatenate([video.scores for video in seen]), threshold, clusters, resamples=200)


def coverage(videos: Sequence[Scored], wanted: Data) -> tuple[str, str]:
    """What was found, in words, and what was missing ("" where nothing)."""
    counts = [sum(video.label == label for video in videos) for label in (0, 1)]
    scored = [sum(video.label == label and len(video.scores) > 0 for video in videos) for label in (0, 1)]
    asked = [wanted.real, wanted.fake]
    if not any(counts):
        return "nothing", f"data missing: no {wanted.dataset} {'/'.join(wanted.methods)}".strip()
    parts = [
        f"{have}{f' of {want}' if want and have != want else ''} {kind}"
        for have, want, kind in zip(counts, asked, ("real", "fake"), strict=True)
    ]
    told = ", ".join(parts)
    if lost := sum(counts) - sum(scored):
        told += f"; {lost} without a score"
    if not all(asked):
        return told, "the size of the published set is not stated"
    return told, f"only part of the published data ({told})" if short(scored, wanted) else ""


def short(counts: Sequence[int], wanted: Data) -> bool:
    """Whether so many real and fake videos are too few to stand for the published protocol's."""
    return any(have < ENOUGH * want for have, want in zip(counts, (wanted.real, wanted.fake), strict=True))


# --- finding the data


def find_items(roots: Sequence[Path], protocol: Protocol, sheet: Sheet) -> list[tuple[Path, Item]]:
    """The items of the data sets that are the roots, or lie in them side by side. Raises ReproduceError."""
    found: list[tuple[Path, Item]] = []
    for root in roots:
        try:
            places = {root: index_dataset("auto", str(root))}
        except DatasetError as error:
            places = {}
            for folder in sorted(path for path in root.iterdir() if path.is_dir()):
                try:
                    places[folder] = index_dataset("auto", str(folder))
                except DatasetError:
                    continue
            if not places:
                raise ReproduceError(f"--data {root}: {error}. {protocol.name} needs {protocol.needs}") from None
        for place, index in places.items():
            sheet.notes.append(f"{index.layout}: {', '.join(f'{n} {what}' for what, n in index.counts().items())}")
            sheet.notes += index.notes
            found += [(place / item.path, item) for item in index.items]
    return found


def select(found: Sequence[tuple[Path, Item]], wanted: Data) -> dict[Path, Item]:
    """The items that a row is measured on."""
    return {
        path: item
        for path, item in found
        if item.dataset.lower() == wanted.dataset.lower()
        and (not wanted.split or item.split == wanted.split)
        and (not wanted.compressions or item.compression in wanted.compressions)
        and (not item.label or not wanted.methods or item.method in wanted.methods)
    }


def limited(items: dict[Path, Item], limit: int | None) -> dict[Path, Item]:
    """At most `limit` of each class, evenly spread."""
    if limit is None:
        return items
    kept: dict[Path, Item] = {}
    for label in (0, 1):
        paths = [path for path, item in items.items() if item.label == label]
        if paths:
            places = np.unique(np.linspace(0, len(paths) - 1, limit).round().astype(int))
            kept |= {paths[i]: items[paths[i]] for i in places.tolist()}
    return kept


def _pictures(folder: Path, count: int) -> list[Path]:
    """At most `count` of a folder's pictures, evenly spread."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    return [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, count).round().astype(int))] if paths else []
