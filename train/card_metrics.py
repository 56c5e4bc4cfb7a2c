"""The figures of cards, from reports: what was measured of each detector, written into the manifest of its weights.

    unmask evaluate --data DATA --split dev --allow-fitted --json dev.json
    unmask evaluate --data DATA --split dev --kind image --perturb everyday --allow-fitted --json stills.json
    unmask evaluate --data DATA --split train --kind image --sha-prefix 01 --perturb everyday --allow-fitted \
        --json reals.json
    python -m train.withheld --json withheld.json
    python -m train.card_metrics [NAME ...] --dev dev.json stills.json --reals reals.json --withheld withheld.json

A detector's own scores, not the fused one, by the calibration and pooling that its card has now, whatever they were
when the reports were made; of reports with `--perturb` after each step too. The figures replace all that the card had
but those of the training's own validation.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detectors.fusion import sigmoid
from detectors.store import Calibration, Metric, WeightsError, available, set_metrics
from preprocessing.perturb import describe
from train.examples import BadRows, read_rows, steps_of
from train.examples import examples as tracks_of
from train.levels import examples
from train.metrics import Estimate, proportion, summary

ANIMATED = ("fomm_miljandv", "vasa1_vexpress", "emo_vexpress")
"""Data sets of heads that are animated as a whole."""
ONE_ACTOR = "dfdc_crops"
ALARMS = (0.5, 0.9)
"""Calibrated scores above which a real still counts."""

Row = Mapping[str, Any]


def _fakes_but(*sets: str) -> Callable[[Row], bool]:
    return lambda row: not row["label"] or row["dataset"] not in sets


def _videos(row: Row) -> bool:
    return row.get("kind") == "video"


SWAPS = "development videos but whole-head animation (fomm, vasa1, emo)"
ANIMATION = "whole-head animation videos against all real videos"
WITHHELD = "pseudo-fakes of withheld families and people"
RESERVED = "reserved real stills, never trained on"
TRAINING = ("validation", "pseudo-fakes of")
"""How sets of the training's own figures begin."""

GROUPS: dict[str, Callable[[Row], bool]] = {
    SWAPS: lambda row: _videos(row) and _fakes_but(*ANIMATED)(row),
    "the same videos without dfdc_crops (one actor)": lambda row: (
        _videos(row) and _fakes_but(*ANIMATED, ONE_ACTOR)(row) and row["dataset"] != ONE_ACTOR
    ),
    ANIMATION: lambda row: _videos(row) and (not row["label"] or row["dataset"] in ANIMATED),
    "development stills": lambda row: row.get("kind") == "image",
}
"""Of the development set, by the words of a card."""
GRID = (SWAPS, "development stills")
"""Those that are told after every perturbation that the reports have."""


def calibrated(rows: Sequence[dict[str, Any]], name: str, calibration: Calibration | None) -> list[Row]:
    """The rows that the detector scored, with the score that its calibration gives them now: as `unmask evaluate` has
    it, the highest of the faces'."""
    how = calibration or Calibration(a=1.0, b=0.0, fitted_on="", n=1)
    made = tracks_of([], [name], rows, {name: how.aggregation} if how.aggregation else {})
    by_file = made.by_file(made.logits[:, 0]) if made.rows else []
    scores = [sigmoid(how.a * float(np.nanmax(logits)) + how.b) for logits in by_file]
    return [row | {"detectors": {name: score}} for row, score in zip(made.rows, scores, strict=True)]


def of_development(rows: Sequence[Row], name: str, step: str = "") -> list[Metric]:
    """AUC of each group that has both classes, with its interval from resampled people; after a step of GRID alone."""
    found = []
    for told, among in GROUPS.items():
        if step and told not in GRID:
            continue
        chosen = examples([row for row in rows if among(row)], "video", name)
        fakes = int(chosen.labels.sum())
        if 0 < fakes < len(chosen.labels):
            area = summary(chosen.labels, chosen.scores, 0.5, chosen.clusters)["auc"]
            note = f"{fakes} fake, {len(chosen.labels) - fakes} real"
            found.append(_metric(told, "AUC", area, note, step))
    return found


def of_reals(rows: Sequence[Row], name: str, step: str = "") -> list[Metric]:
    """The shares of real stills whose calibrated score is above ALARMS."""
    scores = [row["detectors"][name] for row in rows if not row["label"] and name in row["detectors"]]
    return [
        _metric(
            RESERVED,
            f"share with a score above {least:g}",
            proportion(sum(s > least for s in scores), len(scores)),
            step=step,
        )
        for least in ALARMS
        if scores
    ]


def of_withheld(report: Mapping[str, Any], name: str) -> list[Metric]:
    """AUC and calibration on families and people that no training showed."""
    told = f"{WITHHELD} ({', '.join(report['families'])})"
    figures = report["detectors"].get(name, {})
    return [
        Metric(set=told, metric=words, **{key: _short(figures[figure][key]) for key in ("value", "low", "high", "n")})
        for figure, words in (("auc", "AUC"), ("ece", "ECE"))
        if figures.get(figure, {}).get("value") is not None
    ]


def _metric(told: str, words: str, one: Estimate, note: str = "", step: str = "") -> Metric:
    if one.value is None:
        raise BadRows(f"{told}: {one.note}")
    if step:
        name, _, level = step.rpartition("-")
        note = describe(name, int(level))
    note = "; ".join(part for part in (note, one.note) if part)
    return Metric(
        set=told,
        metric=words,
        value=round(one.value, 3),
        low=_short(one.low),
        high=_short(one.high),
        n=one.n,
        note=note,
        perturbation=step,
    )


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def replaced(before: Sequence[Metric], new: Sequence[Metric]) -> list[Metric]:
    """What the training said in `before`, without the sets that `new` measured again; then `new`."""
    again = {metric.set for metric in new}
    kept = [one for one in before if one.set.startswith(TRAINING) and one.set not in again]
    return [*kept, *new]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 written, 2 usage or a report that does not hold what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="detectors; default: all with weights")
    several: dict[str, Any] = {"type": Path, "nargs": "+", "required": True, "metavar": "FILE"}
    parser.add_argument("--dev", help="evaluations of the development set", **several)
    parser.add_argument("--reals", help="evaluations of real stills that no training saw", **several)
    parser.add_argument("--withheld", type=Path, required=True, metavar="FILE", help="of python -m train.withheld")
    given = parser.parse_args(arguments)
    try:
        steps = ["", *steps_of([*given.dev, *given.reals])]
        dev = {step: read_rows(given.dev, step) for step in steps}
        reals = {step: read_rows(given.reals, step) for step in steps}
        withheld = json.loads(given.withheld.read_text(encoding="utf-8"))
        cards = available()
        for name in given.names or sorted(cards):
            if name not in cards:
                raise BadRows(f"{name} has no weights; those that have some: {', '.join(sorted(cards))}")
            fit = cards[name].calibration
            new = of_withheld(withheld, name)
            for step in steps:
                new += of_development(calibrated(dev[step], name, fit), name, step)
                new += of_reals(calibrated(reals[step], name, fit), name, step)
            set_metrics(name, cards[name].profile, replaced(cards[name].metrics, new))
            print(f"{name}: {len(new)} figures")
    except (BadRows, KeyError, OSError, ValueError, WeightsError) as error:
        print(f"python -m train.card_metrics: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
