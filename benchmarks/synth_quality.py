"""What the fast generators change in the pseudo-fakes: each against the published order or formula, by distribution.

    python -m benchmarks.synth_quality

The faces are those of `benchmarks.synth`. A row's value is the fast way's mean, its baseline the published way's on the
same seeds, its ratio the one over the other; `spread` is the deviation between samples of the fast way.
"""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.synth import SIDE, Face, faces, sized
from preprocessing.blending import PseudoFake, sample_rng, sbi, sbi_reference
from preprocessing.blending.bi import FEATHER, feathered, random_mask
from preprocessing.blending.reference import reference_field
from preprocessing.blending.targets import face_xray
from preprocessing.blending.warps import elastic_field

SAMPLES = 240
FIELDS = 48
MARGIN = 24
"""Pixels at the border left out of field statistics: the published filter reflects there."""


def _measures(pair: PseudoFake) -> dict[str, float]:
    inside = pair.mask > 0.9
    change = pair.fake[inside].astype(np.float64) - pair.real[inside]
    ramp = ((pair.mask > 0.05) & (pair.mask < 0.95)).sum() / np.sqrt((pair.mask > 0.5).sum())
    return {
        "mask area, share of the crop": float((pair.mask > 0.5).mean()),
        "ramp area over the root of the mask's": float(ramp),
        "X-ray integral, share of the crop": float(face_xray(pair.mask).mean()),
        "colour shift inside, levels": float(np.abs(change.mean(axis=0)).mean()),
        "difference inside, levels": float(np.abs(change).mean()),
    }


def _row(metric: str, fast: list[float], published: list[float]) -> dict[str, Any]:
    value, baseline = float(np.mean(fast)), float(np.mean(published))
    row = {"bench": "synth_quality", "metric": metric, "value": round(value, 4), "unit": "mean"}
    more = {"baseline": round(baseline, 4), "ratio": round(value / baseline, 4)}
    return row | more | {"n": len(fast), "spread": round(float(np.std(fast)), 4)}


def _sbi(found: list[Face]) -> list[dict[str, Any]]:
    pairs: list[tuple[dict[str, float], dict[str, float]]] = []
    for number in range(SAMPLES):
        face = found[number % len(found)]
        made = [make(face.image, face.points, sample_rng(1, 0, number)) for make in (sbi, sbi_reference)]
        pairs.append((_measures(made[0]), _measures(made[1])))
    return [
        _row(f"SBI: {name}", [fast[name] for fast, _ in pairs], [slow[name] for _, slow in pairs])
        for name in pairs[0][0]
    ]


def _elastic() -> list[dict[str, Any]]:
    fast, slow = (
        np.stack([make((380, 380), np.random.default_rng(n))[MARGIN:-MARGIN, MARGIN:-MARGIN, 0] for n in range(FIELDS)])
        for make in (elastic_field, reference_field)
    )
    rows = [_row("elastic: deviation, px", [float(f.std()) for f in fast], [float(f.std()) for f in slow])]
    for lag in (5, 10, 14, 20):
        both = ([_correlation(field, lag) for field in fields] for fields in (fast, slow))
        rows.append(_row(f"elastic: correlation at {lag} px", *both))
    return rows


def _correlation(field: NDArray[np.floating], lag: int) -> float:
    return float(np.corrcoef(field[:, :-lag].ravel(), field[:, lag:].ravel())[0, 1])


def _feather(found: list[Face]) -> list[dict[str, Any]]:
    fast, slow = [], []
    for number in range(48):
        points = found[number % len(found)].points[:68] * np.float32(220 / SIDE)
        mask = random_mask(points, (220, 220), sample_rng(2, 0, number))
        if mask.any():
            fast.append(float(face_xray(feathered(mask)).sum()))
            slow.append(float(face_xray(exact_feather(mask)).sum()))
    return [_row("BI: X-ray integral, px", fast, slow)]


def exact_feather(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """BI's weights by the polygon distance of every pixel, as published: a tenth of a second a mask."""
    found = cv2.findNonZero(mask).reshape(-1, 2)
    hull = cv2.convexHull(found)
    feather = FEATHER * float(np.ptp(found, axis=0).max())
    weights = np.zeros(mask.shape, np.float32)
    for column, row in found.tolist():
        weights[row, column] = min(max(cv2.pointPolygonTest(hull, (column, row), True) / feather, 0), 1)
    return weights


def run() -> list[dict[str, Any]]:
    """Rows {bench, metric, value, unit, baseline, ratio, n, spread}."""
    found = faces()
    return [*_sbi([sized(face, 380) for face in found]), *_elastic(), *_feather(found)]


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
