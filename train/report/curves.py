"""The charts of a report, from examples of the video level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from scipy.stats import norm

from train.levels import EVEN, FUSED, Examples
from train.metrics import ECE_BINS, wilson
from train.report.svg import Chart, Scale, series, share

DET_RANGE = (0.005, 0.95)
DET_TICKS = [(p, f"{100 * p:g} %") for p in (0.01, 0.05, 0.2, 0.4, 0.6, 0.8)]
HISTOGRAM_BINS = 20


def probit(p: float) -> float:
    """The standard normal's quantile: scores of two equal normals make a straight line on its axes."""
    return float(norm.ppf(p))


def css_of(name: str, names: Sequence[str]) -> str:
    """The class of a detector's lines, the same in every chart."""
    return FUSED if name == FUSED else series([n for n in names if n != FUSED].index(name))


def ranking_charts(scored: Mapping[str, Examples]) -> dict[str, Markup]:
    """ROC, precision-recall and DET curves, a line for the fused score and for each detector with both classes."""
    from sklearn.metrics import det_curve, precision_recall_curve, roc_curve

    names = list(scored)
    roc = Chart(share("false alarm rate"), share("share of fakes found"), "ROC curves")
    roc.line([(0, 0), (1, 1)], "guide")
    pr = Chart(share("share of fakes found (recall)"), share("precision"), "Precision-recall curves")
    low, high = DET_RANGE
    axis = [Scale(low, high, DET_TICKS, title, probit) for title in ("false alarm rate", "miss rate")]
    det = Chart(axis[0], axis[1], "DET curves on probit axes")
    det.line([(low, low), (high, high)], "guide")
    fused = scored.get(FUSED)
    if fused is not None and len(fused) and 0 < fused.labels.mean() < 1:
        level = float(fused.labels.mean())
        pr.line([(0, level), (1, level)], "guide", f"share of fakes, {level:.2f}")
    for name in sorted(names, key=lambda n: n == FUSED):  # the fused score's line lies on top
        one = scored[name]
        if len(set(one.labels.tolist())) < 2:
            continue
        css = css_of(name, names)
        fpr, tpr, _ = roc_curve(one.labels, one.scores)
        roc.line(zip(fpr, tpr, strict=True), css, name)
        precision, recall, _ = precision_recall_curve(one.labels, one.scores)
        pr.line(zip(recall[::-1], precision[::-1], strict=True), css, name)
        alarms, misses, _ = det_curve(one.labels, one.scores)
        det.line(zip(alarms, misses, strict=True), css, name)
    return {"ROC": roc.render(), "Precision and recall": pr.render(), "DET": det.render()}


def reliability(one: Examples, name: str, bins: int = ECE_BINS) -> Markup:
    """The share of fakes against the mean score of each bin, with Wilson's interval over its videos and its count."""
    chart = Chart(share("mean score"), share("share of fakes"), f"Reliability of {name}")
    chart.line([(0, 0), (1, 1)], "guide")
    place = np.minimum((one.scores * bins).astype(int), bins - 1)
    for number in range(bins):
        inside = place == number
        count = int(inside.sum())
        if not count:
            continue
        score, fakes = float(one.scores[inside].mean()), float(one.labels[inside].mean())
        low, high = wilson(fakes, len(np.unique(one.clusters[inside])))
        chart.line([(score, low), (score, high)], "whisker")
        chart.dot((score, fakes), "point", f"{count} files, mean score {score:.2f}, {fakes:.0%} fake")
        chart.text(((number + 0.5) / bins, 0), str(count), up=4)
    return chart.render()


def histogram(one: Examples, name: str, threshold: float) -> Markup:
    """Scores of reals (upwards) and fakes (downwards) as shares of their class, against the threshold."""
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    counts = [np.histogram(one.scores[one.labels == label], edges)[0] for label in (0, 1)]
    shares = [count / max(count.sum(), 1) for count in counts]
    top = max(0.1, float(max(part.max() for part in shares)) * 1.08)
    step = next(step for step in (0.05, 0.1, 0.2, 0.4) if top < 3 * step + 0.05)
    ticks = [(i * step, f"{abs(i) * step:.0%}") for i in range(-3, 4) if abs(i) * step <= top]
    chart = Chart(share("score"), Scale(-top, top, ticks, "fakes  |  reals"), f"Scores of {name}, by class")
    for label, word in ((0, "real"), (1, "fake")):
        for number, part in enumerate(shares[label]):
            if counts[label][number]:
                span = (float(edges[number]), float(edges[number + 1]))
                height = float(part) * (1 if label == 0 else -1)
                title = f"{counts[label][number]} {word}, {span[0]:.2f} to {span[1]:.2f}"
                chart.bar(span, (0.0, height), word, title)
    chart.line([(threshold, -top), (threshold, top)], "threshold", f"threshold {threshold:.2f}")
    return chart.render()


def risk_coverage(scored: Mapping[str, Examples], rows: Sequence[Mapping[str, Any]]) -> Markup:
    """The share of wrong calls among the surest files, against the share of all files that they are. El-Yaniv and
    Wiener, JMLR 11 (2010). Each file is called by the likelier side; files without a score are never covered. The point
    is the shipped verdicts'."""
    names, top = list(scored), 0.1
    lines: dict[str, list[tuple[float, float]]] = {}
    for name, one in scored.items():
        if not len(one):
            continue
        order = np.argsort(-np.abs(one.scores - EVEN), kind="stable")
        wrong = ((one.scores >= EVEN) != (one.labels == 1))[order]
        risk = np.cumsum(wrong) / np.arange(1, len(wrong) + 1)
        lines[name] = [(float((i + 1) / max(len(rows), 1)), float(r)) for i, r in enumerate(risk)]
        top = max(top, float(np.max(risk[len(risk) // 10 :])))
    decided = [row for row in rows if row["verdict"] in ("real", "fake")]
    mistakes = sum((row["verdict"] == "fake") != bool(row["label"]) for row in decided)
    at = (len(decided) / max(len(rows), 1), mistakes / max(len(decided), 1))
    top = min(1.0, float(np.ceil(max(top, at[1]) * 5)) / 5)  # ticks at quarters of it are round
    chart = Chart(share("share of files decided"), share("share of these wrong", top), "Risk and coverage")
    for name in sorted(lines, key=lambda n: n == FUSED):
        chart.line(lines[name], css_of(name, names), name)
    if decided:
        chart.dot(at, "verdicts", f"verdicts: {len(decided)} decided, {mistakes} of them wrong", 5)
    return chart.render()
