"""What every face detector is, and the geometry of boxes that detectors and the tracker share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.types import Detection, Image

SAME_FACE_OVERLAP = 0.35
"""Two boxes of one picture with at least this intersection over union are one face found twice."""
NESTED_OVERLAP = 0.65
"""A box of which this share lies inside a better one is part of the same face."""


class FaceDetector(Protocol):
    """Finds faces. Deterministic: the same pictures in the same order since reset() give the same faces."""

    def detect(self, image: Image) -> list[Detection]:
        """Faces of `image` (H, W, 3), boxes in its pixels in dlib HOG's convention; best first, none twice."""
        ...

    def reset(self) -> None:
        """A new scene begins: forget what earlier pictures taught (sizes of faces, fruitless searches)."""
        ...


def overlaps(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union (N, M) of boxes (N, 4) and (M, 4)."""
    inside, areas, others = _intersections(first, second)
    return inside / np.maximum(areas[:, None] + others[None, :] - inside, 1e-9)


def _intersections(
    first: NDArray[np.floating], second: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    first = np.asarray(first, np.float64).reshape(-1, 4)
    second = np.asarray(second, np.float64).reshape(-1, 4)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    inside = np.prod(np.maximum(high - low, 0), axis=2)
    return inside, np.prod(first[:, 2:] - first[:, :2], axis=1), np.prod(second[:, 2:] - second[:, :2], axis=1)


def boxes_of(faces: Sequence[Detection]) -> NDArray[np.float32]:
    """(N, 4) float32."""
    return np.array([face.box for face in faces], np.float32).reshape(-1, 4)


def without_duplicates(faces: Sequence[Detection]) -> list[Detection]:
    """The faces in the given order, without those that overlap an earlier one."""
    if len(faces) < 2:
        return list(faces)
    inside, areas, _ = _intersections(boxes_of(faces), boxes_of(faces))
    smaller = np.maximum(np.minimum(areas[:, None], areas[None, :]), 1e-9)
    union = np.maximum(areas[:, None] + areas[None, :] - inside, 1e-9)
    clash = (inside / union >= SAME_FACE_OVERLAP) | (inside / smaller >= NESTED_OVERLAP)
    kept: list[int] = []
    for row in range(len(faces)):
        if not clash[row, kept].any():
            kept.append(row)
    return [faces[row] for row in kept]


def rescaled(image: Image, longest: int, max_scale: float) -> tuple[Image, float]:
    """The picture with its longer side at `longest`, enlarged at most `max_scale` times, and the scale."""
    scale = min(longest / max(image.shape[:2]), max_scale)
    if scale == 1:
        return image, 1.0
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), scale


def to_hog_box(box: NDArray[np.floating], side: float, right: float, down: float) -> NDArray[np.float32]:
    """A square box in dlib HOG's convention from another detector's box: `side` times its geometric mean side, the
    centre moved `right` and `down` by shares of that mean."""
    width, height = float(box[2] - box[0]), float(box[3] - box[1])
    mean = max(width * height, 1.0) ** 0.5
    x, y = (box[0] + box[2]) / 2 + right * mean, (box[1] + box[3]) / 2 + down * mean
    half = side * mean / 2
    return np.array([x - half, y - half, x + half, y + half], np.float32)
