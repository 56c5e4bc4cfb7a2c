"""The rows of evaluations as arrays to fit calibration and fusion on: tracks, their files, sources and weights."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.aggregate import Aggregation
from detectors.quality import MEASURES, vector
from train.evidence import with_tracks

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SMALL_SET = 60
"""A data set of at most so many files counts as one source (its people, scenes and makers are shared); in a larger one
a file is, with those of its name: a real picture and the fakes made of it."""


class BadRows(ValueError):
    """Rows that cannot be fitted on; the message says why and what to do."""


@dataclass(frozen=True)
class Examples:
    """N tracks of F files.

    `logits` (N, D) before calibration, NaN where detector `names[d]` gave none; `quality` (N, len(MEASURES));
    `file` (N,) indexes `rows`; `fits` (N,) bool: takes part in fits, not only in its file's score. By file: `label`
    (F,) 0 real, 1 fake; `source` (F,); `stacked` (F,) bool: takes part in the stacker and the figures, not only in the
    calibration and the bound on false alarms.
    """

    names: tuple[str, ...]
    logits: Floats
    quality: Floats
    file: Ints
    fits: Bools
    rows: tuple[dict[str, Any], ...]
    label: Ints
    source: Ints
    stacked: Bools

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, files: Bools) -> Examples:
        """The examples of some files, (F,) bool."""
        kept = files[self.file]
        place = np.cumsum(files) - 1
        return replace(
            self,
            logits=self.logits[kept],
            quality=self.quality[kept],
            file=place[self.file[kept]],
            fits=self.fits[kept],
            rows=tuple(row for row, keep in zip(self.rows, files, strict=True) if keep),
            label=self.label[files],
            source=self.source[files],
            stacked=self.stacked[files],
        )

    def resample(self, rng: np.random.Generator) -> Floats:
        """How often each file is drawn, (F,), when as many sources as there are are drawn with replacement."""
        _, place = np.unique(self.source, return_inverse=True)
        count = int(place.max()) + 1
        return np.bincount(rng.integers(0, count, count), minlength=count)[place].astype(np.float64)

    def mass(self, times: Floats | None = None) -> Floats:
        """Weight of each track, (N,). Both classes weigh the same; in a class a data set weighs as the root of its
        number of files, so that no large one dominates; its files share that, and a file's tracks share the file's.

        The sum is the number of files, half of each class, that would say as much if all weighed the same (Kish).
        `times` (F,): files counted more than once, or not at all.
        """
        sets = [f"{label}/{row.get('dataset', '')}" for label, row in zip(self.label, self.rows, strict=True)]
        _, place, sizes = np.unique(sets, return_inverse=True, return_counts=True)
        weight = 1 / np.sqrt(sizes[place])
        sides = [self.label == label for label in (0, 1)]
        effective = [weight[side].sum() ** 2 / max((weight[side] ** 2).sum(), 1e-12) for side in sides]
        half = 2 * effective[0] * effective[1] / max(sum(effective), 1e-12)
        if times is not None:
            weight = weight * times
        for side in sides:
            weight[side] *= half / max(weight[side].sum(), 1e-12)
        tracks = np.bincount(self.file[self.fits], minlength=len(self))
        return np.asarray((weight / np.maximum(tracks, 1))[self.file] * self.fits)

    def by_file(self, values: Floats) -> list[Floats]:
        """Values of tracks, (N,), as one array a file."""
        order = np.argsort(self.file, kind="stable")
        ends = np.cumsum(np.bincount(self.file, minlength=len(self)))[:-1]
        return np.split(values[order], ends)


def read_rows(reports: Sequence[Path], step: str = "") -> list[dict[str, Any]]:
    """The scored files of reports of `unmask evaluate --json`, each file once; as they are, or after a step of
    `--perturb` ("jpeg-4") in the reports that have it. Raises BadRows."""
    rows: dict[str, dict[str, Any]] = {}
    for report in reports:
        try:
            found = json.loads(report.read_text(encoding="utf-8"))
            listed = with_tracks(found.get("perturbed_scores", {}).get(step, []) if step else found["scores"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadRows(f"{report} is no report of `unmask evaluate --json`: {error}") from None
        for number, row in enumerate(listed):
            rows.setdefault(row.get("sha256") or f"{report}:{number}", row)
    return list(rows.values())


def steps_of(reports: Sequence[Path]) -> list[str]:
    """The perturbations that the reports hold files of, in their order. Raises BadRows."""
    try:
        found = [json.loads(report.read_text(encoding="utf-8")).get("perturbed_scores", {}) for report in reports]
    except (OSError, ValueError, AttributeError) as error:
        raise BadRows(f"a report cannot be read: {error}") from None
    return list(dict.fromkeys(step for steps in found for step in steps))


def examples(
    rows: Sequence[dict[str, Any]],
    names: Collection[str],
    more: Sequence[dict[str, Any]] = (),
    aggregations: Mapping[str, Aggregation] | None = None,
) -> Examples:
    """Examples of the detectors `names` from an evaluation's rows; `more` only calibrate and bound false alarms.

    Of a fake file only the longest track is fitted on: which of several people is fake is not known. `aggregations`:
    pool these detectors' frame logits so, where the rows have them. Raises BadRows unless both classes are among
    `rows`, where there are any.
    """
    ordered = sorted(names)
    found: list[dict[str, Any]] = []
    logits: list[list[float]] = []
    quality: list[list[float]] = []
    file: list[int] = []
    fits: list[bool] = []
    for row in [*rows, *more]:
        kept = []
        for track in _tracks(row):
            known = _logits(track, aggregations or {})
            values = [known.get(name, np.nan) for name in ordered]
            if np.isfinite(values).any():
                kept.append((values, vector(track.get("quality", {}))))
        for number, (values, poor) in enumerate(kept):
            logits.append(values)
            quality.append(poor)
            file.append(len(found))
            fits.append(number == 0 or not row["label"])
        if kept:
            found.append(row)
    kept_rows = tuple(found)
    label = np.array([row["label"] for row in kept_rows], np.int64)
    extra = {id(row) for row in more}
    made = Examples(
        tuple(ordered),
        np.array(logits, np.float64).reshape(-1, len(ordered)),
        np.array(quality, np.float64).reshape(-1, len(MEASURES)),
        np.array(file, np.int64),
        np.array(fits, np.bool_),
        kept_rows,
        label,
        np.unique(sources(kept_rows), return_inverse=True)[1] if kept_rows else np.zeros(0, np.int64),
        np.array([id(row) not in extra for row in kept_rows], np.bool_),
    )
    if rows and set(made.label[made.stacked].tolist()) != {0, 1}:
        raise BadRows("fitting needs real and fake files with scores of detectors that have weights")
    return made


def sources(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Each row's source: what is given as `source`, `identity` or `group`, else by data set and name (SMALL_SET)."""
    sizes = Counter(row.get("dataset", "") for row in rows)
    found = []
    for number, row in enumerate(rows):
        data_set = row.get("dataset", "")
        given = row.get("source") or row.get("identity") or row.get("group")
        if given:
            found.append(f"given/{given}")
        elif data_set and sizes[data_set] <= SMALL_SET:
            found.append(f"set/{data_set}")
        else:
            found.append(f"name/{PurePath(row['path']).stem}" if row.get("path") else f"row/{number}")
    return found


def folds(made: Examples, count: int, seed: int = 0) -> Ints:
    """A fold for each file, (F,): no source in two folds, both classes spread evenly. Raises BadRows."""
    from sklearn.model_selection import StratifiedGroupKFold

    by_class: dict[int, set[int]] = defaultdict(set)
    for label, source in zip(made.label.tolist(), made.source.tolist(), strict=True):
        by_class[label].add(source)
    least = min(len(by_class[0]), len(by_class[1]))
    if least < 2:
        which = "real" if len(by_class[0]) < 2 else "fake"
        raise BadRows(f"all {which} files are of one source: cross-fitting needs files of at least two")
    fold = np.zeros(len(made), np.int64)
    splitter = StratifiedGroupKFold(min(count, least), shuffle=True, random_state=seed)
    for number, (_, test) in enumerate(splitter.split(np.zeros(len(made)), made.label, made.source)):
        fold[test] = number
    return fold


def _tracks(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The row's tracks, longest first; a report without them has one of unknown quality."""
    tracks = row.get("tracks") or [{"logits": row.get("logits", {}), "frames": 1}]
    return sorted(tracks, key=lambda track: -track.get("frames", 1))


def _logits(track: dict[str, Any], aggregations: Mapping[str, Aggregation]) -> dict[str, float]:
    frames = track.get("frame_logits", {})
    pooled = {name: how.pool(np.array(frames[name])) for name, how in aggregations.items() if frames.get(name)}
    return {**track["logits"], **{name: value for name, value in pooled.items() if name in track["logits"]}}
