"""Rows of an evaluation as examples: frames, clips, tracks or videos, of one detector or of the fused score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from train.metrics import summary

Level = Literal["frame", "clip", "track", "video"]
LEVELS: tuple[Level, ...] = get_args(Level)
FUSED = "fused"
"""The name under which the fused score stands beside the detectors'. Frames and clips have none: faces are fused."""
EVEN = 0.5
"""Where a calibrated detector by itself, having no shipped threshold, is cut: at even odds."""
RESAMPLES: dict[Level, int] = {"frame": 200, "clip": 200, "track": 1000, "video": 1000}
Figures = dict[str, Any]


@dataclass(frozen=True)
class Examples:
    """n scored examples of one kind. `clusters`: equal values are no independent evidence. A track, clip or frame of a
    fake video counts as fake, whoever in the video was manipulated."""

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    clusters: NDArray[np.str_]
    datasets: NDArray[np.str_]
    methods: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, kept: NDArray[np.bool_]) -> Examples:
        """Those that are kept."""
        return Examples(
            self.labels[kept], self.scores[kept], self.clusters[kept], self.datasets[kept], self.methods[kept]
        )


def cluster(row: Mapping[str, Any]) -> str:
    """Whose evidence a row is: the identity within its data set where known, else the file."""
    if row.get("identity"):
        return f"{row['dataset']}/{row['identity']}"
    return str(row.get("sha256") or row["path"])


def examples(rows: Iterable[Mapping[str, Any]], level: Level, name: str = FUSED) -> Examples:
    """The examples of a level that have a score of `name`, a detector's or the fused one."""
    found = [(row, score) for row in rows for score in _scores(row, level, name)]
    return Examples(
        np.array([row["label"] for row, _ in found], np.int64),
        np.array([score for _, score in found], np.float64),
        np.array([cluster(row) for row, _ in found], np.str_),
        np.array([row["dataset"] for row, _ in found], np.str_),
        np.array([row["method"] for row, _ in found], np.str_),
    )


def _scores(row: Mapping[str, Any], level: Level, name: str) -> list[float]:
    if level == "video":
        score = row["score"] if name == FUSED else row["detectors"].get(name)
        return [] if score is None else [score]
    faces = row.get("faces", [])
    if name == FUSED:
        return [face["fused"] for face in faces if level == "track" and face["fused"] is not None]
    ok = [face["detectors"][name] for face in faces if face["detectors"].get(name, {}).get("status") == "ok"]
    if level == "track":
        return [found["score"] for found in ok]
    return [moment[-1] for found in ok for moment in found["frame_scores"]]


def names_at(level: Level, units: Mapping[str, str]) -> list[str]:
    """Who has scores at a level: `units` says of each detector whether its smallest answer is a frame's or a clip's."""
    if level in ("track", "video"):
        return [FUSED, *sorted(units)]
    return sorted(name for name, unit in units.items() if unit == level)


def cut(name: str, threshold: float) -> float:
    """From where on a score of `name` is called fake: the fused score's shipped threshold, or EVEN."""
    return threshold if name == FUSED else EVEN


def level_figures(
    rows: Sequence[Mapping[str, Any]], level: Level, units: Mapping[str, str], threshold: float
) -> dict[str, Any]:
    """`overall`, `by_dataset`, `by_method` of the fused score (none at frame and clip), `by_detector`, and the matrices
    `cross_dataset` and `cross_method` {name: {data set: figures}} of the detectors and the fused score.

    Fakes of a method, and data sets of fakes only, are held against the reals of their data set, or against all reals
    where it has none: `reals` says which. `threshold` is the fused score's; detectors are cut at EVEN.
    """
    named = {name: examples(rows, level, name) for name in names_at(level, units)}
    count = RESAMPLES[level]

    def figures(name: str, one: Examples) -> Figures:
        found = summary(one.labels, one.scores, cut(name, threshold), one.clusters, resamples=count)
        return {figure: estimate.as_dict() for figure, estimate in found.items()}

    overall = {name: figures(name, one) for name, one in named.items()}
    sets = sorted({str(row["dataset"]) for row in rows} - {""})
    methods = sorted({str(row["method"]) for row in rows if row["label"]} - {""})
    by_set = {
        name: _matrix(one, {s: one.datasets == s for s in sets}, partial(figures, name)) for name, one in named.items()
    }
    chosen = {name: {m: (one.methods == m) & (one.labels == 1) for m in methods} for name, one in named.items()}
    by_method = {name: _matrix(one, chosen[name], partial(figures, name)) for name, one in named.items()}
    fused = named.get(FUSED)
    return {
        "overall": overall.get(FUSED, {}),
        "by_dataset": by_set.get(FUSED, {}),
        "by_method": by_method.get(FUSED, {}),
        "by_detector": {name: found for name, found in overall.items() if name != FUSED},
        "cross_dataset": by_set,
        "cross_method": by_method,
        "reals": {}
        if fused is None
        else {
            "by_dataset": {s: _against(fused, fused.datasets == s)[1] for s in by_set[FUSED]},
            "by_method": {m: _against(fused, chosen[FUSED][m])[1] for m in by_method[FUSED]},
        },
        "mean_over_sets": {name: _mean_over_sets(named[name], by_set[name]) for name in named},
    }


def _matrix(one: Examples, groups: Mapping[str, NDArray[np.bool_]], figures: Any) -> dict[str, Figures]:
    return {group: figures(one.where(_against(one, kept)[0])) for group, kept in groups.items() if kept.any()}


def _against(one: Examples, kept: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], str]:
    """The group with the reals that it is held against, and whose they are: own, all or none."""
    real = one.labels == 0
    if not (one.labels[kept] == 1).any():
        return kept, "own"
    own = real & np.isin(one.datasets, np.unique(one.datasets[kept]))
    if own.any():
        return kept | own, "own"
    return kept | real, "all" if real.any() else "none"


def _mean_over_sets(one: Examples, by_set: Mapping[str, Figures]) -> dict[str, float | int | None]:
    """The plain mean of the AUCs of data sets that have both classes: unlike the pooled AUC it does not see that scores
    shift from set to set."""
    areas = [
        figures["auc"]["value"]
        for name, figures in by_set.items()
        if {0, 1} <= set(one.labels[one.datasets == name].tolist())
    ]
    return {"auc": round(float(np.mean(areas)), 6) if areas else None, "sets": len(areas)}
