"""Fit each detector's calibration and the fusion from an evaluation of media that no training saw.

    unmask evaluate --data DIR --split dev --sha-prefix 02468ace --json calibration.json
    python -m train.calibrate calibration.json --data-name "development set, sha256 even"

Fit on one part of the labelled media (by the files' sha256, say) and report on the rest. Only the calibrations in the
manifest and fusion.json change; no network does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detectors.fusion import SHIPPED, FusionModel, fit_fusion, fit_platt
from detectors.store import Calibration, available, set_calibration


def calibrate(rows: Sequence[dict[str, Any]], names: Sequence[str], fitted_on: str) -> dict[str, Calibration]:
    """A Platt calibration a detector from the rows' raw logits; a detector seen on one class only has none."""
    found = {}
    for name in names:
        pairs = [(row["logits"][name], row["label"]) for row in rows if name in row["logits"]]
        if len({label for _, label in pairs}) == 2:
            a, b = fit_platt([value for value, _ in pairs], [label for _, label in pairs])
            found[name] = Calibration(a=round(a, 6), b=round(b, 6), fitted_on=fitted_on, n=len(pairs))
    return found


def fuse_rows(
    rows: Sequence[dict[str, Any]],
    calibrations: Mapping[str, Calibration],
    shas: Mapping[str, str],
    fitted_on: str,
    blind_to: str = "",
) -> FusionModel:
    """The stacker on the calibrated scores of rows that have any. Raises ValueError unless both classes are there."""
    scores, labels = [], []
    for row in rows:
        known = {
            name: float(1 / (1 + np.exp(-(calibrations[name].a * value + calibrations[name].b))))
            for name, value in row["logits"].items()
            if name in calibrations
        }
        if known:
            scores.append(known)
            labels.append(row["label"])
    for_weights = {name: shas[name] for name in calibrations}
    return fit_fusion(scores, labels, fitted_on=fitted_on, for_weights=for_weights, blind_to=blind_to)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="JSON of unmask evaluate")
    parser.add_argument("--data-name", required=True, help="what the report's media are, for the cards")
    parser.add_argument("--blind-to", default="", help="a sentence on what the detectors do not see, told with 'real'")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="where the fusion is written")
    given = parser.parse_args(arguments)
    rows = json.loads(given.report.read_text(encoding="utf-8"))["scores"]
    cards = available()
    calibrations = calibrate(rows, sorted(cards), given.data_name)
    for name, calibration in calibrations.items():
        set_calibration(name, cards[name].profile, calibration)
        print(f"{name}: score = sigmoid({calibration.a:.3f} * logit + {calibration.b:.3f}), n = {calibration.n}")
    shas = {name: card.sha256 for name, card in cards.items()}
    fusion = fuse_rows(rows, calibrations, shas, given.data_name, given.blind_to)
    given.out.write_text(json.dumps(fusion.model_dump(), indent=1) + "\n", encoding="utf-8")
    print(f"fusion: {fusion.weights}, bias {fusion.bias:.3f}, n = {fusion.n}")


if __name__ == "__main__":
    main()
