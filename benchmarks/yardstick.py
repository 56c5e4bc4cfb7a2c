"""A fixed piece of work timed in the same run, so that figures from different machines can be compared."""

from __future__ import annotations

import time

import numpy as np
from scipy.ndimage import gaussian_filter

REFERENCE_MS = 10.2
"""The yardstick on the machine that the baselines were taken on."""


def yardstick_ms(repeats: int = 15) -> float:
    """Median processor milliseconds of scipy's Gaussian filter (sigma 7) of two 380x380 float64 fields, one thread."""
    fields = np.random.default_rng(0).uniform(-1, 1, (2, 380, 380))
    times = []
    for _ in range(repeats):
        start = time.process_time()
        for values in fields:
            gaussian_filter(values, 7)
        times.append(time.process_time() - start)
    return float(np.median(times)) * 1e3


def scaled(baseline_ms: float, yardstick: float) -> float:
    """A baseline in milliseconds as this machine, whose yardstick is given, would have measured it."""
    return baseline_ms * yardstick / REFERENCE_MS
