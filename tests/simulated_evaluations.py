"""Simulated evaluations whose truth is known, for the tests of calibration, fusion and what is said of them."""

from __future__ import annotations

from typing import Any

import numpy as np

DETECTORS = ("fair", "good", "guess")
GAPS = np.array([1.0, 2.0, 0.0])
"""Distance of the classes' mean log-odds, in deviations of the noise."""


def evaluation(
    files: int, sets: int, seed: int = 0, *, effect: float = 0.4, missing: float = 0.0, label: int | None = None
) -> list[dict[str, Any]]:
    """Rows of `unmask evaluate`: three detectors of different scales; files of a data set share an offset of deviation
    `effect`; a share `missing` of the logits is absent. Every row has its sha256, a track, its quality and frames."""
    rng = np.random.default_rng(seed)
    offsets = effect * rng.normal(size=(sets, len(GAPS)))
    rows = []
    for number in range(files):
        kind = number % 2 if label is None else label
        data_set = int(rng.integers(sets))
        evidence = (kind - 0.5) * GAPS + offsets[data_set] + rng.normal(size=len(GAPS))
        raw = dict(zip(DETECTORS, (evidence * [2, 1, 3] + [1, 0, -1]).tolist(), strict=True))
        logits = {name: value for name, value in raw.items() if name == "good" or rng.random() >= missing}
        frames = {name: [round(value + float(d), 4) for d in rng.normal(size=8)] for name, value in logits.items()}
        rows.append(
            {
                "path": f"s{data_set}/{seed}-{number}.mp4", "label": kind, "dataset": f"set {seed}-{data_set}",
                "method": "swap" if kind else "", "sha256": f"{seed:08x}{number:056x}", "logits": logits,
                "tracks": [{"track": 0, "frames": 50, "quality": {}, "logits": logits, "frame_logits": frames}],
            }
        )  # fmt: skip
    return rows
