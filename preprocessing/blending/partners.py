"""Whose face is blended onto whose: the nearest faces by landmarks, found once for a whole index.

The published generators search thousands of random frames for every sample (specs/blending.md, section 2, step 2). Here
each frame's nearest frames of other sources are ranked once; `draw` then takes from the list what the published search
would have found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.blending.pseudofake import BlendError

KEEP = 100
SHORTLIST = 8
"""Times `keep`: how many of the nearest by Euclidean distance are ranked by the sum of point distances."""
BLOCK = 256
"""Rows of the matrix product at once: 256 x 54,000 distances are 55 MB."""


def landmark_distances(one: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float32]:
    """The published metric: sums over the points of Euclidean distances in pixels, (N,), from (P, 2) to (N, P, 2)."""
    gaps = np.asarray(others, np.float32) - np.asarray(one, np.float32)
    return np.sqrt(np.square(gaps).sum(axis=-1)).sum(axis=-1)


class PartnerIndex:
    """For each of N faces its nearest faces of other sources, nearest first.

    `landmarks` (N, P, 2) in pixels of crops with the same framing; `sources` (N,): the video or person of each, never
    its own partner. `neighbours` (N, keep) int32, -1 where there are fewer; `distances` (N, keep) float32.
    """

    def __init__(
        self,
        landmarks: NDArray[np.floating],
        sources: Sequence[Any] | NDArray[Any],
        keep: int = KEEP,
        exact: bool = False,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        """Ranks by the published metric the SHORTLIST x keep faces nearest by the norm of all coordinates (one
        matrix product); `exact` ranks all faces, which takes far longer. `rows`: the faces that get partners, default
        all, so that workers can share the ranking.

        Raises:
            BlendError: landmarks of another shape or not finite, not as many sources, or a single source.
        """
        points = np.asarray(landmarks, np.float32)
        if points.ndim != 3 or points.shape[-1] != 2 or len(points) != len(sources) or not np.isfinite(points).all():
            given = f"{points.shape} and {len(sources)}"
            raise BlendError(f"partners are found for finite landmarks (N, P, 2) and N sources, not {given}")
        _, self._source = np.unique(np.asarray(sources), return_inverse=True)
        if len(points) == 0 or self._source.max() == 0:
            raise BlendError("a face's partner is of another source, and all faces given have the same")
        self._points = points
        # Centred, the squares stay small: float32 would lose the small distances between large coordinates.
        flat = (points - points.mean(axis=0)).reshape(len(points), -1)
        self._flat, self._squares = flat, np.square(flat).sum(axis=1)
        self.neighbours = np.full((len(points), keep), -1, np.int32)
        self.distances = np.full((len(points), keep), np.inf, np.float32)
        wanted = np.arange(len(points)) if rows is None else np.asarray(rows)
        for start in range(0, len(wanted), BLOCK):
            some = wanted[start : start + BLOCK]
            self.neighbours[some], self.distances[some] = self._nearest(some, keep, exact)

    def __len__(self) -> int:
        return len(self._points)

    def _nearest(
        self, rows: NDArray[np.int64], keep: int, exact: bool
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        neighbours = np.full((len(rows), keep), -1, np.int32)
        distances = np.full((len(rows), keep), np.inf, np.float32)
        count = min(len(self), SHORTLIST * keep)
        if not exact:
            # Twice the product less the squares: the row's own square changes no order.
            near = 2 * (self._flat[rows] @ self._flat.T) - self._squares
            near[self._source[rows][:, None] == self._source] = -np.inf
        for place, row in enumerate(rows):
            if exact:
                chosen = np.flatnonzero(self._source != self._source[row])
            else:
                chosen = np.argpartition(near[place], -count)[-count:]
                chosen = chosen[self._source[chosen] != self._source[row]]
            found = landmark_distances(self._points[row], self._points[chosen])
            order = np.argsort(found, kind="stable")[:keep]
            neighbours[place, : len(order)], distances[place, : len(order)] = chosen[order], found[order]
        return neighbours, distances

    def draw(self, index: int, rng: np.random.Generator, candidates: int | None = None) -> int:
        """A partner for face `index`.

        None: any face of the list with equal odds (LAA-Net: the best 30 of 10,000). `candidates`: the nearest of so
        many random faces (BI: 5000). Each face of the ranked list is among them with odds candidates / N, and the first
        that is wins; the last of the list where none is (with 100 faces listed of 54,000: in 6 of 100,000 draws).
        """
        ranked = self.neighbours[index]
        known = int((ranked >= 0).sum())
        if known == 0:
            raise BlendError(f"face {index} has no partners: it is not among the rows that were ranked")
        if candidates is None:
            return int(ranked[int(rng.integers(known))])
        odds = min(candidates / len(self), 1.0)
        return int(ranked[min(int(rng.geometric(odds)) - 1, known - 1)])
