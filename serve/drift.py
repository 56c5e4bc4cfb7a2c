"""How far a detector's scores of late are from those that its calibration was fitted on.

How many of the media are fake is nobody's fault, so the scores are compared with the mixture of the card's reals and
fakes that fits best; what no mixture explains is drift: other cameras, other platforms, other fakes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

WINDOW = 500
"""Scores that count as late."""
LEAST = 100
"""Fewer say nothing: chance alone moves ten shares of them by a tenth."""
MIXTURES = np.linspace(0, 1, 21)[:, None]


class Drift:
    """Of one detector. `shares`: ten shares of the card's reals, ten of its fakes."""

    def __init__(self, shares: tuple[Sequence[float], Sequence[float]]) -> None:
        reals, fakes = (np.asarray(side, np.float64) for side in shares)
        self._expected = (1 - MIXTURES) * reals + MIXTURES * fakes
        self._late: deque[int] = deque(maxlen=WINDOW)

    def add(self, score: float) -> float | None:
        """A score, 0 to 1; the share of the late ones that would have to lie elsewhere (total variation), 0 to 1."""
        self._late.append(min(int(score * 10), 9))
        if len(self._late) < LEAST:
            return None
        found = np.bincount(self._late, minlength=10) / len(self._late)
        return float(np.abs(self._expected - found).sum(1).min() / 2)
