"""Which pooling of a track's frames each detector gets: compared by cross-fitting, chosen on clear evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from detectors.aggregate import FAMILY, Aggregation
from train.examples import BadRows, Bools, Examples, Floats, examples, folds
from train.metrics import Estimate, auc
from train.stacking import apply, calibrators

RESAMPLES = 1000
OWN = "the method's own"


def compare(
    rows: Sequence[dict[str, Any]],
    names: Sequence[str],
    count: int = 5,
    seed: int = 0,
    now: Mapping[str, Aggregation] | None = None,
) -> dict[str, Any]:
    """For each detector with frame logits: the cross-fitted log loss (nats, classes weighing the same) and AUC of each
    pooling, and what is chosen.

    A pooling replaces the method's own where the interval of its gain in log loss lies above 0; of several the one of
    the largest gain. The intervals, from resamples of sources, hold together with 95 % (Bonferroni). `picked_blindly`
    is the log loss when the pooling of least loss is chosen anew in each fold without the fold's files: what choosing
    itself gains. Files without frames do not count. `now`: poolings that cards had when the rows were made, which the
    tracks' logits come of: they stand in the place of the method's own, and stay where nothing is clearly better.
    """
    report: dict[str, Any] = {}
    for name in names:
        kept = [row for row in rows if any(len(t.get("frame_logits", {}).get(name, [])) > 1 for t in _tracks(row))]
        try:
            report[name] = _one(kept, name, count, seed, (now or {}).get(name))
        except BadRows as error:
            report[name] = {"chosen": None, "files": len(kept), "why": str(error)}
    return report


def chosen(report: Path) -> dict[str, Aggregation]:
    """The choices of a report that `python -m train.calibrate aggregate` wrote. Raises BadRows."""
    try:
        found = {name: one["chosen"] for name, one in json.loads(report.read_text(encoding="utf-8")).items()}
        return TypeAdapter(dict[str, Aggregation]).validate_python({n: how for n, how in found.items() if how})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ValidationError) as error:
        raise BadRows(f"{report} is no report of `python -m train.calibrate aggregate`: {error}") from None


def _one(rows: Sequence[dict[str, Any]], name: str, count: int, seed: int, now: Aggregation | None) -> dict[str, Any]:
    if {row["label"] for row in rows} != {0, 1}:
        raise BadRows("comparing needs real and fake files with several frames")
    own = examples(rows, [name])
    fold = folds(own, count, seed)
    labels = own.label.astype(np.float64)
    neutral = _neutral(own)
    family = [how.model_copy(update={"neutral": neutral}) if how.kind == "confident" else how for how in FAMILY]
    pooled = [examples(rows, [name], aggregations={name: how}) for how in family]
    scores = [_cross(made, fold) for made in (own, *pooled)]
    share = np.where(own.label == 1, 0.5 / labels.sum(), 0.5 / (1 - labels).sum())
    losses = [np.logaddexp(0, np.where(own.label == 1, -values, values)) for values in scores]
    gains = [_gain(own, losses[0] - loss, seed) for loss in losses]
    better = [i for i in range(1, len(gains)) if (gains[i].low or 0.0) > 0]
    best = max(better, key=lambda i: gains[i].value or 0.0, default=0)
    blind = np.zeros(len(own))
    for number in range(int(fold.max()) + 1):
        held = fold == number
        least = int(np.argmin([_mean(loss, share, ~held) for loss in losses]))
        blind[held] = losses[least][held]
    return {
        "chosen": family[best - 1].model_dump() if best else now and now.model_dump(),
        "files": len(own),
        "picked_blindly": round(_mean(blind, share, np.ones(len(own), np.bool_)), 4),
        "poolings": {
            label: {
                "log_loss": round(float(share @ loss), 4),
                "gain": gain.as_dict(),
                "auc": round(auc(labels, values), 4),
            }
            for label, loss, gain, values in zip(
                [f"the card's {now}" if now else OWN, *map(str, family)], losses, gains, scores, strict=True
            )
        },
    }


def _cross(made: Examples, fold: np.ndarray) -> Floats:
    """Each file's calibrated logit, of its longest track, by a calibration that saw nothing of its source, (F,)."""
    first = np.searchsorted(made.file, np.arange(len(made)))
    found = np.zeros(len(made))
    mass = made.mass()
    for number in range(int(fold.max()) + 1):
        held = fold == number
        platts = calibrators(made, np.where(held[made.file], 0.0, mass))
        found[held] = np.nan_to_num(apply(platts, made.logits)[first, 0][held])
    return found


def _gain(made: Examples, gains: Floats, seed: int) -> Estimate:
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(RESAMPLES):
        times = made.resample(rng)
        sums = [times[made.label == side].sum() for side in (0, 1)]
        if min(sums) > 0:
            values.append(sum((times * gains)[made.label == side].sum() / sums[side] for side in (0, 1)) / 2)
    value = float(sum(gains[made.label == side].mean() for side in (0, 1)) / 2)
    tail = 0.025 / len(FAMILY)
    low, high = np.quantile(values, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), len(made))


def _mean(loss: Floats, share: Floats, part: Bools) -> float:
    return float((share * loss)[part].sum() / share[part].sum())


def _neutral(made: Examples) -> float:
    """The logit that says nothing: where a calibration on all files gives even odds."""
    a, b = calibrators(made, made.mass())[0]
    return round(-b / a, 4) if a > 0 else 0.0


def _tracks(row: dict[str, Any]) -> list[dict[str, Any]]:
    return row.get("tracks") or []
