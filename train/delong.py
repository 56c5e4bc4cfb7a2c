"""DeLong's comparison of correlated ROC areas, in O(n log n), for independent items or for clusters of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Z = 1.959963984540054


@dataclass(frozen=True)
class Comparison:
    """`difference` = AUC of the first minus AUC of the second, its 95 % interval and two-sided p; None where the
    variance is not estimable (fewer than two clusters of a class) or is zero (equal rankings)."""

    first: float
    second: float
    difference: float
    low: float | None
    high: float | None
    p: float | None
    n: int


def delong(labels: ArrayLike, scores: ArrayLike, clusters: ArrayLike | None = None) -> tuple[Floats, Floats]:
    """AUCs (k,) and their covariance (k, k) of k detectors on the same items.

    DeLong, DeLong, Clarke-Pearson, Biometrics 44 (1988), with the midranks of Sun and Xu, IEEE Signal Processing
    Letters 21 (2014). With `clusters`, items of one cluster (faces of one video, videos of one person) may depend on
    each other: Obuchowski, Biometrics 53 (1997), sections 2 and 3; a cluster may hold both classes.

    Args:
        labels: (n,) 0 real, 1 fake.
        scores: (k, n), higher is more suspicious; ties count half.
        clusters: (n,) equal values are one cluster; None: every item is its own.

    Raises:
        ValueError: one class only. The covariance is NaN where a class has fewer than two clusters.
    """
    from scipy.stats import rankdata

    y, s = np.asarray(labels).astype(bool), np.atleast_2d(np.asarray(scores, np.float64))
    m, n = int(y.sum()), int((~y).sum())
    if not m or not n:
        raise ValueError("an ROC area needs both classes")
    ranks = rankdata(s, axis=1)
    # The share of the other class that each item outranks: its structural component.
    of_fakes = (ranks[:, y] - rankdata(s[:, y], axis=1)) / n
    of_reals = 1 - (ranks[:, ~y] - rankdata(s[:, ~y], axis=1)) / m
    area = of_fakes.mean(axis=1)
    if clusters is None:
        if min(m, n) < 2:
            return area, np.full((len(s), len(s)), np.nan)
        return area, np.atleast_2d(np.cov(of_fakes) / m + np.cov(of_reals) / n)
    _, group = np.unique(np.asarray(clusters), return_inverse=True)
    fakes, counts_fake = _by_cluster(of_fakes - area[:, None], group[y], group.max() + 1)
    reals, counts_real = _by_cluster(of_reals - area[:, None], group[~y], group.max() + 1)
    a, b = int((counts_fake > 0).sum()), int((counts_real > 0).sum())
    if min(a, b) < 2:
        return area, np.full((len(s), len(s)), np.nan)
    total = len(counts_fake)
    cross = fakes @ reals.T * total / ((total - 1) * m * n)
    within = fakes @ fakes.T * a / ((a - 1) * m * m) + reals @ reals.T * b / ((b - 1) * n * n)
    return area, within + cross + cross.T


def _by_cluster(deviations: Floats, group: NDArray[np.intp], count: int) -> tuple[Floats, NDArray[np.intp]]:
    """Sums (k, count) of the deviations of each cluster's items, and how many items each has."""
    sums = [np.bincount(group, weights=row, minlength=count) for row in deviations]
    return np.array(sums, np.float64), np.bincount(group, minlength=count)


def compare(labels: ArrayLike, first: ArrayLike, second: ArrayLike, clusters: ArrayLike | None = None) -> Comparison:
    """Two detectors on the same items; normal approximation. Raises ValueError where there is one class only."""
    from scipy.stats import norm

    area, covariance = delong(labels, np.stack([np.asarray(first), np.asarray(second)]), clusters)
    difference = float(area[0] - area[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    low = high = p = None
    if variance > 1e-15:
        error = variance**0.5
        low, high = max(-1.0, difference - Z * error), min(1.0, difference + Z * error)
        p = float(2 * norm.sf(abs(difference) / error))
    return Comparison(float(area[0]), float(area[1]), difference, low, high, p, np.asarray(labels).size)
