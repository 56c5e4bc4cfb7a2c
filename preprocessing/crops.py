"""From landmarks to the square crop that a detector declares, and back from the crop to the frame."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.inputs import FaceInput
from preprocessing.types import Image

NEARLY_ONE = 1.1
"""Up to this factor shrinking is plain bilinear: little aliases, and averaging would only blur."""


def face_square(points: NDArray[np.floating], margin: float) -> tuple[float, float, float]:
    """Centre x, centre y and side of the upright square around landmarks (68 or 81, 2), in their pixels.

    Centred on the bounding box of the first 68 points, side `margin` times its longer side: 81 points give the same
    square as the 68 in them.
    """
    low, high = points[:68].min(axis=0), points[:68].max(axis=0)
    centre = (low + high) / 2
    return float(centre[0]), float(centre[1]), float(margin * max(float((high - low).max()), 1.0))


def eye_roll(points: NDArray[np.floating]) -> float:
    """Angle in radians of the line from the left picture eye to the right one; positive is clockwise on the screen."""
    left, right = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    return math.atan2(float(right[1] - left[1]), float(right[0] - left[0]))


def crop_transform(points: NDArray[np.floating], spec: FaceInput) -> NDArray[np.float64]:
    """The map (2, 3) float64 from frame pixels to pixels of the face crop: crop = M[:, :2] @ frame + M[:, 2].

    Pixel centres are at whole coordinates on both sides. With align="eyes" the square is that of the levelled
    landmarks, so the crop does not change when the face is turned in the picture plane. Its inverse
    (cv2.invertAffineTransform) takes a heatmap in crop coordinates back to the frame.
    """
    points = np.asarray(points, np.float64)
    angle = eye_roll(points) if spec.align == "eyes" else 0.0
    cos, sin = math.cos(angle), math.sin(angle)
    level = np.array([[cos, sin], [-sin, cos]])
    cx, cy, side = face_square(points @ level.T, spec.margin)
    linear = level * (spec.size / side)
    shift = (spec.size - 1) / 2 - np.array([cx, cy]) * (spec.size / side)
    return np.column_stack([linear, shift])


def face_input(image: Image, offset: tuple[int, int], points: NDArray[np.floating], spec: FaceInput) -> Image:
    """The face crop (size, size, 3) uint8 that `spec` declares, from a margin crop or a whole frame (offset (0, 0)).

    `points` are in pixels of the frame, `offset` the frame position of image[0, 0]. Enlarging is bilinear. Shrinking
    averages the area under each pixel, so that detail does not alias: whole blocks of frame pixels first, the remaining
    factor of 1 to 2 by sampling at double size. Blocks are aligned to the frame: a margin crop gives what the frame
    gives. Outside the image the border pixels are repeated: black would add an edge and a reflection half a second
    face, and both look like manipulation to a detector.
    """
    matrix = crop_transform(points, spec)
    inverse = cv2.invertAffineTransform(matrix)
    end = spec.size - 0.5
    corners = np.array([[-0.5, -0.5], [end, -0.5], [-0.5, end], [end, end]]) @ inverse[:, :2].T + inverse[:, 2]
    shrink = math.hypot(inverse[0, 0], inverse[1, 0])
    block = max(1, math.floor(shrink))
    double = 2 if shrink / block > NEARLY_ONE else 1
    # The patch of the frame under the crop, a pixel or more larger for the interpolation, in whole blocks.
    low = (np.floor((corners.min(axis=0) - 1) / block) * block).astype(int)
    high = (np.ceil((corners.max(axis=0) + 2) / block) * block).astype(int)
    patch = _patch(image, (int(low[0]) - offset[0], int(low[1]) - offset[1]), *(high - low).tolist())
    if block > 1:
        patch = cv2.resize(patch, None, fx=1 / block, fy=1 / block, interpolation=cv2.INTER_AREA)
    # Pixel i of the patch has its centre at low + block * i + (block - 1) / 2 of the frame.
    # Likewise pixel j of the crop at double size has its centre at (j - 1/2) / 2 of the crop.
    origin = matrix[:, :2] @ (low + (block - 1) / 2) + matrix[:, 2]
    to_crop = np.column_stack([matrix[:, :2] * block * double, origin * double + (double - 1) / 2])
    size = spec.size * double
    crop = cv2.warpAffine(patch, to_crop, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return crop if double == 1 else cv2.resize(crop, (spec.size, spec.size), interpolation=cv2.INTER_AREA)


def _patch(image: Image, start: tuple[int, int], width: int, height: int) -> Image:
    """`width` x `height` pixels from `start` (x, y), which may lie outside; border pixels are repeated there."""
    rows, columns = image.shape[:2]
    left, top = min(max(start[0], 0), columns - 1), min(max(start[1], 0), rows - 1)
    right = min(max(start[0] + width, left + 1), columns)
    bottom = min(max(start[1] + height, top + 1), rows)
    inside = image[top:bottom, left:right]
    before, above = left - start[0], top - start[1]
    after, below = width - before - (right - left), height - above - (bottom - top)
    if before == above == after == below == 0:
        return np.ascontiguousarray(inside)
    if min(before, above, after, below) >= 0:
        return cv2.copyMakeBorder(inside, above, below, before, after, cv2.BORDER_REPLICATE)
    # The patch lies wholly outside on one side: repeat the nearest row or column.
    xs = np.clip(np.arange(start[0], start[0] + width), 0, columns - 1)
    ys = np.clip(np.arange(start[1], start[1] + height), 0, rows - 1)
    return np.ascontiguousarray(image[ys[:, None], xs[None, :]])
