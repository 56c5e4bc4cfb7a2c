"""Clips of stills: a photographed face under a camera that moves, for the many people whom no training clip shows.

Real videos to train on are few. A still has no expression to follow, so that what is made of it is blends and swaps,
never reenactments: a moving mouth would tell fake from real.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.blending.clips import FaceClip
from preprocessing.crops import face_square
from preprocessing.landmarks import flip_points
from preprocessing.types import Image, Points
from train.real_faces import RealFaces

SHIFT, TURN, ZOOM = 0.03, 3.0, 0.03
"""Standard deviations of the motion through a clip: shares of the face's side, degrees, relative size."""
KNOT = 8
"""Frames between the points that the motion runs smoothly through."""


@dataclass(frozen=True)
class Stills:
    """Faces of a pack that take the place of clips: those at `rows`."""

    faces: RealFaces
    rows: NDArray[np.int64]

    def draw(self, rng: np.random.Generator, unlike: str = "") -> tuple[Image, Points, str]:
        """A picture, its landmarks (81, 2) and its source, which is not `unlike` where there is another."""
        row = int(rng.choice(self.rows))
        if self.faces.sources[row] == unlike:
            others = self.rows[self.faces.sources[self.rows] != unlike]
            row = int(rng.choice(others)) if len(others) else row
        return *self.faces.face(row), str(self.faces.sources[row])


def mirrored(image: Image, points: Points, flipped: bool) -> tuple[Image, Points]:
    """Both as in a mirror, or as they are."""
    if not flipped:
        return image, points
    return np.asarray(cv2.flip(image, 1), np.uint8), flip_points(points, image.shape[1])


def moving_still(image: Image, points: Points, length: int, rng: np.random.Generator) -> FaceClip:
    """`length` frames of one picture (H, W, 3) with landmarks (68 or 81, 2), each shifted, turned and zoomed a little.

    The motion is smooth and starts anywhere; edges are mirrored.
    """
    side = face_square(points[:68], 1.0)[2]
    centre = points[:68].mean(axis=0).astype(np.float64)
    path = _path(length, rng) * (SHIFT * side, SHIFT * side, TURN, ZOOM)
    frames, landmarks = [], []
    for x, y, turn, zoom in path:
        matrix = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), float(turn), float(1 + zoom))
        matrix[:, 2] += (x, y)
        size = (image.shape[1], image.shape[0])
        moved = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        frames.append(np.asarray(moved, np.uint8))
        landmarks.append((points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32))
    return FaceClip(frames, np.stack(landmarks))


def _path(length: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(length, 4) of unit deviation, smooth between random points; how much each clip moves differs."""
    from scipy.interpolate import CubicSpline

    count = max(-(-length // KNOT) + 1, 2)
    knots = rng.standard_normal((count, 4)) * rng.uniform(0.1, 1, 4)
    return np.asarray(CubicSpline(np.arange(count) * KNOT, knots)(np.arange(length)))
