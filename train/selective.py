"""Where 'fake' begins and 'real' ends: bounds for a stated risk and rate of false alarms (selective classification).

Geifman and El-Yaniv, "Selective classification for deep neural networks", NeurIPS 2017. Scores must be cross-fitted:
no file's source in the fit that scored it. Each estimate counts one error more than was seen, as conformal prediction
does, so that few files cannot vouch for a small risk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors.fusion import Selection, log_odds, sigmoid
from train.examples import Bools, Floats, Ints

CURVE_POINTS = 20
GAP = 0.25
"""Log-odds between an extreme score and a bound beyond it."""


@dataclass(frozen=True)
class Bounds:
    """`threshold`: fake from here on; `real_below`: real up to here, 0 where no such verdict holds the risk."""

    threshold: float
    real_below: float
    selection: Selection


def select(
    scores: Floats,
    labels: Ints,
    weights: Floats,
    decides: Bools,
    *,
    risk: float,
    false_alarms: float,
    never_real: bool = False,
) -> Bounds:
    """Bounds from cross-fitted scores of files.

    `scores`, `labels` (0 real, 1 fake), `weights` (> 0), all (F,). `decides` (F,) bool: the fake files that the risk
    is measured on; real files all count. Both classes weigh the same in the risk. The threshold
    keeps the false alarms on all real files at or under `false_alarms`, counted and weighted, one more than seen; with
    fewer than 1 / false_alarms real files, none is above it, and `bound` tells what that vouches for. Where no
    threshold holds the risk too, it is the one of least risk, told as `fake_risk`. `never_real`: no verdict "real",
    where fakes are known that these files do not hold and that would pass as real.
    """
    logits = np.array([log_odds(float(score)) for score in scores])
    real = labels == 0
    fakes = decides & ~real
    part = real | fakes
    edges = _edges(logits)
    bound = max(false_alarms, 1 / (real.sum() + 1))
    ones = np.ones(int(real.sum()))
    counted = _one_more(_above(logits[real], ones, edges), ones)
    weighted = _one_more(_above(logits[real], weights[real], edges), weights[real])
    least = max(bound, float(weighted.min()))
    allowed = (counted <= bound + 1e-12) & (weighted <= least + 1e-12) & (edges >= 0)
    found = _above(logits[fakes], weights[fakes], edges) / weights[fakes].sum()
    fake_risk = weighted / np.maximum(weighted + found, 1e-12)
    held = allowed & (fake_risk <= risk)
    threshold = edges[held][0] if held.any() else edges[allowed][int(np.argmin(fake_risk[allowed]))]
    missed = _one_more(_above(-logits[fakes], weights[fakes], -edges), weights[fakes])
    cleared = _above(-logits[real], weights[real], -edges) / weights[real].sum()
    real_risk = missed / np.maximum(missed + cleared, 1e-12)
    held = (real_risk <= risk) & (edges <= 0) & (edges < threshold) & (not never_real)
    real_below = edges[held][-1] if held.any() else -np.inf
    mass = _balanced(labels[part], weights[part])
    at_fake, at_real = edges == threshold, edges == real_below
    decided = (logits[part] >= threshold) | (logits[part] <= real_below)
    errors = ((logits[part] >= threshold) & (labels[part] == 0)) | ((logits[part] <= real_below) & (labels[part] == 1))
    coverage = float(mass[decided].sum())
    selection = Selection(
        risk=risk,
        false_alarms=false_alarms,
        bound=round(float(max(counted[at_fake][0], weighted[at_fake][0])), 4),
        fake_risk=round(float(fake_risk[at_fake][0]), 4),
        real_risk=round(float(real_risk[at_real][0]), 4) if at_real.any() else None,
        risk_found=round(float(mass[errors].sum()) / coverage, 4) if coverage > 0 else None,
        coverage=round(coverage, 4),
        reals=int(real.sum()),
        fakes=int(fakes.sum()),
        curve=risk_coverage(logits[part], labels[part], mass),
    )
    # Rounded away from the middle.
    upper = float(np.ceil(sigmoid(float(threshold)) * 1e4) / 1e4)
    lower = float(np.floor(sigmoid(float(real_below)) * 1e4) / 1e4) if np.isfinite(real_below) else 0.0
    return Bounds(min(upper, 0.9999), lower, selection)


def risk_coverage(logits: Floats, labels: Ints, mass: Floats) -> list[tuple[float, float]]:
    """(coverage, risk) with the surest share decided at even odds, the surest first; `mass` sums to 1."""
    order = np.argsort(-np.abs(logits), kind="stable")
    wrong = (logits[order] >= 0) != (labels[order] == 1)
    covered, failed = np.cumsum(mass[order]), np.cumsum(mass[order] * wrong)
    at = np.searchsorted(covered, np.arange(1, CURVE_POINTS + 1) / CURVE_POINTS - 1e-9)
    points = sorted({min(int(place), len(order) - 1) for place in at})
    return [(round(float(covered[p]), 4), round(float(failed[p] / covered[p]), 4)) for p in points]


def _edges(logits: Floats) -> Floats:
    """Candidate bounds, ascending: between neighbouring scores, and beyond the ends."""
    values = np.unique(logits)
    return np.concatenate([[values[0] - GAP], (values[1:] + values[:-1]) / 2, [max(values[-1], 0.0) + GAP]])


def _above(values: Floats, weights: Floats, edges: Floats) -> Floats:
    """Weight of the values at or above each edge, (len(edges),)."""
    order = np.argsort(values, kind="stable")
    total = np.concatenate([[0.0], np.cumsum(weights[order])])
    return np.asarray(total[-1] - total[np.searchsorted(values[order], edges, side="left")])


def _one_more(above: Floats, weights: Floats) -> Floats:
    """Weighted share, with one more of mean weight counted among them."""
    return np.asarray((above + weights.mean()) / (weights.sum() + weights.mean()))


def _balanced(labels: Ints, weights: Floats) -> Floats:
    sums = np.array([weights[labels == side].sum() for side in (0, 1)])
    return np.asarray(weights / sums[labels] / 2)
