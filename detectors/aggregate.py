"""From the logits of a track's frames or clips to one for the track: a small family to choose from by evidence."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from preprocessing.settings import Strict

Kind = Literal["mean", "mean_probability", "median", "top", "confident"]


class Aggregation(Strict):
    """`kind` of pooling, and of `top` and `confident` the share of samples that is pooled (one at least).

    mean: of the logits. mean_probability: log-odds of the mean probability. median: of the logits. top: mean of the
    highest logits. confident: mean of the logits furthest from `neutral`, the logit that says nothing.
    """

    kind: Kind
    share: float = Field(0.33, gt=0, le=1)
    neutral: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.share:g}" if self.kind in ("top", "confident") else self.kind

    def pool(self, logits: NDArray[np.floating]) -> float:
        """One logit from (N,) with N >= 1, in the units of the detector's logits and within their range."""
        values = np.asarray(logits, np.float64)
        count = max(int(len(values) * self.share), 1)
        if self.kind == "mean_probability":
            fake, real = -np.logaddexp(0, -values), -np.logaddexp(0, values)
            return float(np.logaddexp.reduce(fake) - np.logaddexp.reduce(real))
        if self.kind == "median":
            return float(np.median(values))
        if self.kind == "top":
            values = np.sort(values)[-count:]
        elif self.kind == "confident":
            values = values[np.argsort(-np.abs(values - self.neutral), kind="stable")[:count]]
        return float(values.mean())


FAMILY = tuple(
    Aggregation(kind=kind, share=share)
    for kind, share in (
        ("mean", 1.0), ("mean_probability", 1.0), ("median", 1.0), ("top", 0.1), ("top", 0.33), ("confident", 0.33),
    )
)  # fmt: skip
"""What `python -m train.calibrate aggregate` compares, besides the method's own."""
