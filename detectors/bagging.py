"""Several networks, each trained on another part of the fakes, give one answer (arXiv 2003.08645).

The paper trains one network on each balanced chunk (train/balanced_chunks.py) and lets them vote; its code does not
show how, so ties and missing members are this project's choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Vote:
    """Of V items: `label` (V,) 1 fake and 0 real by majority; `share` (V,) of the members' votes that say fake;
    `mean` (V,) their mean score, which is the other way to fuse them."""

    label: NDArray[np.int64]
    share: NDArray[np.float64]
    mean: NDArray[np.float64]


def majority_vote(scores: NDArray[np.floating]) -> Vote:
    """Fuse `scores` (M, V), each member's P(fake) of each item; NaN where a member gave none.

    A member votes fake above 1/2. Even votes are decided by the mean score, and a mean of exactly 1/2 says real.
    Raises ValueError for another shape, scores outside 0..1, or an item that no member scored.
    """
    given = np.asarray(scores, np.float64)
    present = ~np.isnan(given)
    if given.ndim != 2 or not present.any(0).all():
        raise ValueError(f"a vote needs (members, items) scores, one at least for each item, not {given.shape}")
    if (given[present] < 0).any() or (given[present] > 1).any():
        raise ValueError("scores that vote are probabilities, from 0 to 1")
    count = present.sum(0)
    share = (present & (given > 0.5)).sum(0) / count
    mean = np.nansum(given, 0) / count
    return Vote(np.where(share == 0.5, mean > 0.5, share > 0.5).astype(np.int64), share, mean)


def video_label(frame_labels: NDArray[Any]) -> int:
    """One label of a video from its frames' hard labels (F,), 1 fake: fake where more than half are; an even split is
    real, as in the reference. Raises ValueError without frames."""
    labels = np.asarray(frame_labels)
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError("a video needs the labels of at least one frame")
    return int(labels.mean() > 0.5)


@dataclass(frozen=True)
class Bag:
    """Members that score the same items: each takes them and gives P(fake) (V,)."""

    members: Sequence[Callable[[Any], NDArray[np.floating]]]

    def predict(self, items: Any) -> Vote:
        """Every member's scores of the items, fused; `items` is whatever the members take."""
        if not self.members:
            raise ValueError("a bag without members cannot vote")
        return majority_vote(np.stack([member(items) for member in self.members]))
