"""Figures that can be cited: each with its number of examples and a 95 % interval that holds for few examples too.

Point values come from scikit-learn. Intervals are percentile bootstraps that resample clusters (all faces of a video,
all videos of a person), since what shares a cluster is no independent evidence. A bootstrap cannot see past its data: a
perfect ranking of ten videos would read [1, 1]. So each interval is widened, where needed, to one that is valid at the
edge, with the number of clusters as the number of examples: Newcombe's for an AUC, Wilson's for a share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from train.bootstrap import bootstrap_figures, cluster_weights

Floats = NDArray[np.float64]
FIGURES = (
    "auc", "ap", "eer", "accuracy", "f1", "tpr_at_1fpr", "tpr_at_5fpr", "fpr_at_threshold", "ece", "brier",
)  # fmt: skip
"""In this order in tables: ranking first, then decisions at the shipped threshold, then calibration."""
ECE_BINS = 10
Z = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval and the number of examples; None where it is not defined. `note` says why, or
    what to know of the interval."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    note: str = ""

    def as_dict(self) -> dict[str, float | int | str | None]:
        """For JSON, rounded to six decimals; `note` where there is one."""
        found = {"value": _round(self.value), "low": _round(self.low), "high": _round(self.high), "n": self.n}
        return found | ({"note": self.note} if self.note else {})

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


def tpr_at_fpr(labels: Floats, scores: Floats, fpr: float) -> float:
    """The share of fakes found at the lowest threshold whose false alarm rate is at most `fpr`; no interpolation."""
    from sklearn.metrics import roc_curve

    rates, found, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(found[rates <= fpr + 1e-12].max())


def expected_calibration_error(labels: Floats, scores: Floats, bins: int = ECE_BINS) -> float:
    """Mean gap between score and share of fakes over equal-width bins, weighted by their size (Guo et al. 2017).

    With few examples a perfectly calibrated score has an error above zero too. Scores mean probabilities under an even
    prior: on other mixes of real and fake the error holds the shift of the prior as well.
    """
    place = np.minimum((scores * bins).astype(int), bins - 1)
    total = 0.0
    for number in range(bins):
        inside = place == number
        if inside.any():
            total += inside.mean() * abs(scores[inside].mean() - labels[inside].mean())
    return float(total)


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share of n independent examples."""
    centre = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * float(np.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n)))
    return max(0.0, centre - half), min(1.0, centre + half)


def proportion(hits: int, n: int) -> Estimate:
    """A share with its Wilson score interval."""
    return Estimate(hits / n, *wilson(hits / n, n), n) if n else Estimate(None, None, None, 0, "no examples")


def newcombe(area: float, fakes: int, reals: int) -> tuple[float, float]:
    """95 % interval of an AUC, valid at 0 and 1: Newcombe, Statistics in Medicine 25 (2006) 559-573, method 5.

    The score interval that solves |area - a| = z sqrt(V(a)) with Hanley and McNeil's variance V of exponential scores.
    """
    from scipy.optimize import brentq

    extra = (fakes + reals) / 2 - 1

    def variance(a: float) -> float:
        return a * (1 - a) * (1 + extra * ((1 - a) / (2 - a) + a / (1 + a))) / (fakes * reals)

    def beyond(a: float) -> float:
        return (area - a) ** 2 - Z * Z * variance(a)

    # At area itself V >= 0 makes `beyond` negative or zero; at the far end V is 0 and it is positive.
    low = 0.0 if area <= 0 else brentq(beyond, 0.0, area - 1e-9)
    high = 1.0 if area >= 1 else brentq(beyond, area + 1e-9, 1.0)
    return float(low), float(high)


def summary(
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    clusters: ArrayLike | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Every figure of FIGURES for one group of scored examples.

    Args:
        labels: (n,) 0 real, 1 fake.
        scores: (n,) in 0..1.
        threshold: a score at or above it is called fake.
        clusters: (n,) equal values are resampled together; None: every example alone.

    One class alone leaves the figures that need both undefined, with a note.
    """
    y, s = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    if not len(y):
        return {name: Estimate(None, None, None, 0, "no scored examples") for name in FIGURES}
    groups = np.unique(np.arange(len(y)) if clusters is None else np.asarray(clusters), return_inverse=True)[1]
    fakes, reals = len(np.unique(groups[y == 1])), len(np.unique(groups[y == 0]))
    total = int(groups.max()) + 1
    weights, problem = cluster_weights(y, groups, resamples, seed)
    drawn = bootstrap_figures(y, s, threshold, ECE_BINS, weights) if weights is not None else {}
    found: dict[str, Estimate] = {}
    for name, (value, examples, note) in _points(y, s, threshold, fakes, reals, total).items():
        n = int((y == 0).sum()) if name == "fpr_at_threshold" else len(y)
        if value is None:
            found[name] = Estimate(None, None, None, n, note)
            continue
        spans = _spans(drawn.get(name))
        if name == "auc":
            spans.append(newcombe(value, fakes, reals))
        elif examples:
            spans.append(wilson(value, examples))
        low, high = (min(s[0] for s in spans), max(s[1] for s in spans)) if spans else (None, None)
        needs = problem and not (name == "fpr_at_threshold" and reals > 1)
        note = "; ".join(filter(None, (note, problem if needs else "")))
        found[name] = Estimate(value, low, high, n, note)
    return found


def _points(
    y: Floats, s: Floats, threshold: float, fakes: int, reals: int, total: int
) -> dict[str, tuple[float | None, int, str]]:
    """Each figure's value, the number of independent examples if it is a share (else 0), and a note."""
    from sklearn.metrics import brier_score_loss, f1_score

    called = s >= threshold
    only = "" if fakes and reals else f"not defined: only {'fakes' if fakes else 'reals'}"
    both: dict[str, tuple[Callable[[], float], int, str]] = {
        "auc": (lambda: auc(y, s), 0, ""),
        # As a share of the fakes: Boyd, Eng, Page, ECML 2013, the binomial interval.
        "ap": (lambda: average_precision(y, s), fakes, ""),
        "eer": (lambda: equal_error_rate(y, s), min(fakes, reals), ""),
        "f1": (lambda: float(f1_score(y, called)), fakes, ""),
        "tpr_at_1fpr": (lambda: tpr_at_fpr(y, s, 0.01), fakes, _few(reals, 100)),
        "tpr_at_5fpr": (lambda: tpr_at_fpr(y, s, 0.05), fakes, _few(reals, 20)),
    }
    found: dict[str, tuple[float | None, int, str]] = {
        name: (None, 0, only) if only else (figure(), examples, note) for name, (figure, examples, note) in both.items()
    }
    found["accuracy"] = (float((called == (y == 1)).mean()), total, "")
    found["fpr_at_threshold"] = (float(called[y == 0].mean()), reals, "") if reals else (None, 0, only)
    found["ece"] = (expected_calibration_error(y, s), 0, "")
    found["brier"] = (float(brier_score_loss(y, np.clip(s, 0, 1), pos_label=1)), 0, "")
    return {name: found[name] for name in FIGURES}


def _few(reals: int, needed: int) -> str:
    return "" if reals >= needed else f"{reals} independent reals resolve no rate below 1 in {reals}"


def _spans(values: Floats | None) -> list[tuple[float, float]]:
    if values is None or not np.isfinite(values).any():
        return []
    low, high = np.nanquantile(values, [0.025, 0.975])
    return [(float(low), float(high))]
