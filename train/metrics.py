"""Figures that can be cited: each with its number of examples and an interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval and the number of examples; None where it is not defined (one class only)."""

    value: float | None
    low: float | None
    high: float | None
    n: int

    def as_dict(self) -> dict[str, float | int | None]:
        """For JSON, rounded to six decimals."""
        return {
            "value": _round(self.value),
            "low": _round(self.low),
            "high": _round(self.high),
            "n": self.n,
        }

    def __str__(self) -> str:
        if self.value is None:
            return f"not defined (n={self.n})"
        span = "" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.value:.3f}{span} (n={self.n})"


def _round(value: float | None) -> float | None:
    return None if value is None else round(float(value), 6)


def auc(labels: Floats, scores: Floats) -> float:
    """Area under the ROC curve; ties count half."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


def average_precision(labels: Floats, scores: Floats) -> float:
    """Average precision of the class fake."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels, scores))


def equal_error_rate(labels: Floats, scores: Floats) -> float:
    """Where the false alarm rate equals the miss rate, interpolated on the ROC curve."""
    from sklearn.metrics import roc_curve

    fpr, tpr, _ = roc_curve(labels, scores)
    gap = fpr - (1 - tpr)
    at = int(np.argmax(gap >= 0))
    if at == 0:
        return float(fpr[0])
    share = -gap[at - 1] / (gap[at] - gap[at - 1])
    return float(fpr[at - 1] + share * (fpr[at] - fpr[at - 1]))


def expected_calibration_error(labels: Floats, scores: Floats, bins: int = 10) -> float:
    """Mean gap between score and share of fakes over equal-width bins, weighted by their size (Guo et al. 2017)."""
    place = np.minimum((scores * bins).astype(int), bins - 1)
    total = 0.0
    for number in range(bins):
        inside = place == number
        if inside.any():
            total += inside.mean() * abs(scores[inside].mean() - labels[inside].mean())
    return float(total)


def bootstrap(
    figure: Callable[[Floats, Floats], float],
    labels: Sequence[float],
    scores: Sequence[float],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """A figure that needs both classes, with its percentile interval from resamples stratified by class."""
    y, s = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    real, fake = np.flatnonzero(y == 0), np.flatnonzero(y == 1)
    if not len(real) or not len(fake):
        return Estimate(None, None, None, len(y))
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        pick = np.concatenate([rng.choice(real, len(real)), rng.choice(fake, len(fake))])
        values.append(figure(y[pick], s[pick]))
    low, high = np.quantile(values, [0.025, 0.975])
    return Estimate(figure(y, s), float(low), float(high), len(y))


def proportion(hits: int, n: int) -> Estimate:
    """A share with its Wilson score interval."""
    if n == 0:
        return Estimate(None, None, None, 0)
    z, p = 1.959964, hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Estimate(p, max(0.0, float(centre - half)), min(1.0, float(centre + half)), n)


def summary(labels: Sequence[int], scores: Sequence[float], threshold: float) -> dict[str, Estimate]:
    """The figures of an evaluation report for one group of scored examples."""
    y, s = np.asarray(labels), np.asarray(scores)
    called = s >= threshold
    return {
        "auc": bootstrap(auc, labels, scores),
        "ap": bootstrap(average_precision, labels, scores),
        "eer": bootstrap(equal_error_rate, labels, scores),
        "accuracy": proportion(int((called == (y == 1)).sum()), len(y)),
        "fpr_at_threshold": proportion(int(called[y == 0].sum()), int((y == 0).sum())),
        "ece": bootstrap(expected_calibration_error, labels, scores),
    }
