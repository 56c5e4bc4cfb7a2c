"""Every figure of all bootstrap resamples at once: resamples are weights of the examples, sorted once by score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Weights = NDArray[np.int32]
CELLS = 4_000_000
"""Weights held expanded to examples at once: bounds memory for millions of frames."""


def cluster_weights(
    labels: Floats, groups: NDArray[np.intp], resamples: int, seed: int
) -> tuple[tuple[Weights, NDArray[np.intp]] | None, str]:
    """How often each cluster (column) is drawn in each resample (row), and each example's column.

    Where clusters hold one class each, as videos do, the number of each class stays; otherwise (a person with real and
    fake videos) all clusters are drawn together. None, with the reason, where a class that is there has one cluster
    only: its spread cannot be known.
    """
    count = int(groups.max()) + 1
    fake = np.bincount(groups, weights=labels, minlength=count) > 0
    real = np.bincount(groups, weights=1 - labels, minlength=count) > 0
    for name, has in (("fakes", fake), ("reals", real)):
        if has.sum() == 1:
            return None, f"no bootstrap: all {name} are of one video or person"
    rng = np.random.default_rng(seed)
    strata = [np.arange(count)] if (fake & real).any() else [np.flatnonzero(fake), np.flatnonzero(real)]
    weights = np.zeros((resamples, count), np.int32)
    for members in strata:
        if len(members):
            drawn = rng.integers(0, len(members), (resamples, len(members)))
            rows = np.arange(resamples)[:, None] * len(members)
            counted = np.bincount((drawn + rows).ravel(), minlength=resamples * len(members))
            weights[:, members] = counted.reshape(resamples, len(members))
    return (weights, groups), ""


def bootstrap_figures(
    labels: Floats, scores: Floats, threshold: float, bins: int, drawn: tuple[Weights, NDArray[np.intp]]
) -> dict[str, Floats]:
    """Each figure's values (resamples,) by name; NaN where a resample misses a class that the figure needs.

    The definitions are those of train.metrics: scikit-learn's with the weights as sample_weight (tested to be equal).
    """
    weights, groups = drawn
    step = max(1, CELLS // len(labels))
    parts = [
        _block(labels, scores, threshold, bins, weights[start : start + step][:, groups])
        for start in range(0, len(weights), step)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _block(labels: Floats, scores: Floats, threshold: float, bins: int, weights: Weights) -> dict[str, Floats]:
    with np.errstate(invalid="ignore", divide="ignore"):
        ranking = _ranking(labels, scores, weights)
        mass = weights.astype(np.float64)
        total = mass.sum(1)
        called = (scores >= threshold).astype(np.float64)
        hits, alarms = mass @ (called * labels), mass @ (called * (1 - labels))
        fakes = mass @ labels
        place = np.minimum((scores * bins).astype(int), bins - 1)
        gaps = mass @ (np.eye(bins)[place] * (scores - labels)[:, None])
        return ranking | {
            "accuracy": (hits + (total - fakes) - alarms) / total,
            "f1": 2 * hits / (fakes + hits + alarms),
            "fpr_at_threshold": alarms / (total - fakes),
            "ece": np.abs(gaps).sum(1) / total,
            "brier": mass @ (scores - labels) ** 2 / total,
        }


def _ranking(labels: Floats, scores: Floats, weights: Weights) -> dict[str, Floats]:
    """AUC, AP, EER and true positive rates from the weighted counts at every distinct score, highest first."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    ranked, fake = weights[:, order], labels[order] == 1
    tp = np.cumsum(ranked * fake, axis=1)[:, ends].astype(np.float64)
    fp = np.cumsum(ranked * ~fake, axis=1)[:, ends].astype(np.float64)
    gained = np.diff(tp, axis=1, prepend=0)
    precision = tp / np.maximum(tp + fp, 1)
    ap = (gained * precision).sum(1) / tp[:, -1]
    tpr = np.pad(tp / tp[:, -1:], ((0, 0), (1, 0)))
    fpr = np.pad(fp / fp[:, -1:], ((0, 0), (1, 0)))
    area = (np.diff(fpr, axis=1) * (tpr[:, 1:] + tpr[:, :-1]) / 2).sum(1)
    ap[~np.isfinite(area)] = np.nan
    return {
        "auc": area,
        "ap": ap,
        "eer": _equal_error(fpr, tpr),
        "tpr_at_1fpr": _at(fpr, tpr, 0.01),
        "tpr_at_5fpr": _at(fpr, tpr, 0.05),
    }


def _equal_error(fpr: Floats, tpr: Floats) -> Floats:
    gap = fpr - (1 - tpr)
    after = np.argmax(gap >= 0, axis=1)  # gap rises from -1 to 1, so it is never at 0
    rows, before = np.arange(len(gap)), np.maximum(after - 1, 0)
    share = -gap[rows, before] / (gap[rows, after] - gap[rows, before])
    return np.asarray(fpr[rows, before] + share * (fpr[rows, after] - fpr[rows, before]))


def _at(fpr: Floats, tpr: Floats, rate: float) -> Floats:
    found = np.where(fpr <= rate + 1e-12, tpr, 0).max(axis=1)
    found[~np.isfinite(fpr[:, -1]) | ~np.isfinite(tpr[:, -1])] = np.nan
    return found
