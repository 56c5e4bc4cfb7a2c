"""68 landmarks a face with dlib, 81 with a user's model or an extrapolated forehead, and their mirror images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.models import ModelFileError, bundled_dlib_model
from preprocessing.types import Image, Points

LANDMARK_LICENCE = (
    "dlib's 68-point landmark model was trained on the iBUG 300-W data set, whose licence excludes commercial use:"
    " for commercial use supply a landmark model of your own."
)

DEFAULT_MODEL = "shape_predictor_68_face_landmarks.dat"

FACE_PIXELS = 256
"""The predictor sees the face enlarged by a whole factor until its box is at least this wide. dlib rounds the box and
the points to whole pixels; on a 90-px face that rounding alone is 1 % of the face, as large as the jitter that landmark
detectors measure. At 256 px it is under 0.2 %."""
MAX_ENLARGEMENT = 8
CONTEXT = 0.6
"""What the predictor sees around the box, in box sides on each side. dlib samples pixels near the current shape, which
stays within this. The tracker's margin crops hold as much, so they and the whole frame give the same points."""

_FOREHEAD_81 = np.array([77, 75, 76, 68, 69, 70, 71, 80, 72, 73, 79, 74, 78])
"""Positions of the public 81-point model's forehead points from left to right (specs/blending.md, section 1)."""


class LandmarkPredictor(Protocol):
    """Finds landmarks in boxes; `name` identifies the extractor in weights and results, `count` is 68 or 81."""

    name: str
    count: int

    def predict(self, image: Image, boxes: NDArray[np.floating]) -> Points:
        """Landmarks (N, count, 2) float32 in pixels of `image` (H, W, 3), for boxes (N, 4) in dlib's convention."""
        ...


class DlibPredictor:
    """dlib's ensemble of regression trees (Kazemi and Sullivan, CVPR 2014), on an enlarged grey patch of each face."""

    def __init__(self, path: Path, name: str) -> None:
        import dlib

        if not path.is_file():
            raise ModelFileError(f"no landmark model at {path}: give the path of a dlib shape predictor (.dat)")
        try:
            self._predictor = dlib.shape_predictor(str(path))
            blank = np.zeros((64, 64), np.uint8)
            self.count = int(self._predictor(blank, dlib.rectangle(8, 8, 56, 56)).num_parts)
        except (RuntimeError, MemoryError) as error:
            raise ModelFileError(f"{path} is not a dlib shape predictor, or it is damaged: {error}") from error
        if self.count not in (68, 81):
            raise ModelFileError(f"{path} predicts {self.count} landmarks: unmask takes models of 68 or 81 points")
        self.name = name

    def predict(self, image: Image, boxes: NDArray[np.floating]) -> Points:
        """Landmarks (N, count, 2) float32 in pixels of `image`; 81 points come with the forehead from left to right."""
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        points = np.empty((len(boxes), self.count, 2), np.float32)
        for row, box in enumerate(boxes):
            points[row] = self._predict_one(image, box)
        if self.count == 81:
            points[:, 68:] = points[:, _FOREHEAD_81]
        return points

    def _predict_one(self, image: Image, box: NDArray[np.float64]) -> NDArray[np.float64]:
        import dlib

        height, width = image.shape[:2]
        side = max(box[2] - box[0], box[3] - box[1], 1.0)
        context = CONTEXT * side
        # Clipping to one pixel keeps a box outside the picture harmless: the points are then meaningless, not an error.
        left = min(max(math.floor(box[0] - context), 0), width - 1)
        top = min(max(math.floor(box[1] - context), 0), height - 1)
        right = min(max(math.ceil(box[2] + context), left + 1), width)
        bottom = min(max(math.ceil(box[3] + context), top + 1), height)
        factor = min(max(math.ceil(FACE_PIXELS / side), 1), MAX_ENLARGEMENT)
        grey = cv2.cvtColor(np.ascontiguousarray(image[top:bottom, left:right]), cv2.COLOR_RGB2GRAY)
        if factor > 1:
            grey = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
        # Pixel i of the picture has its centre at factor * i + (factor - 1) / 2 of the enlarged one.
        shift = np.array([left, top], np.float64)
        half = (factor - 1) / 2
        corners = np.floor((box.reshape(2, 2) - shift) * factor + half + 0.5).astype(int)
        shape = self._predictor(grey, dlib.rectangle(*corners.ravel().tolist()))
        found = np.array([(part.x, part.y) for part in shape.parts()], np.float64)
        return (found - half) / factor + shift


def create_landmark_predictor(model: Path | None = None) -> LandmarkPredictor:
    """dlib's 68-point predictor, or a user's dlib .dat of 68 or 81 points, named after its file.

    Raises:
        ModelFileError: no such file, not a dlib shape predictor, or another number of points.
    """
    if model is None:
        return DlibPredictor(bundled_dlib_model(DEFAULT_MODEL), "dlib68")
    return DlibPredictor(Path(model), Path(model).stem)


@dataclass(frozen=True)
class ForeheadPoints:
    """81 landmarks `points` (N, 81, 2); `extrapolated` says that the last 13 were not seen but follow from the 68."""

    points: Points
    extrapolated: bool


def with_forehead(points: NDArray[Any]) -> ForeheadPoints:
    """81 points from (N, 68, 2), extrapolated, or from (N, 81, 2), as they are."""
    if points.shape[-2] == 81:
        return ForeheadPoints(np.asarray(points, np.float32), extrapolated=False)
    return ForeheadPoints(to_81(points), extrapolated=True)


ARC_DEGREES = (12.0, 168.0)
FOREHEAD_HEIGHT = 0.55
"""Top of the forehead above the nasion, in lengths of nasion to chin: by the rule of facial thirds the hairline is at
about 0.6, and the arc stays below it so that hair is left out of masks."""


def to_81(points: NDArray[Any]) -> Points:
    """81 landmarks (N, 81, 2) float32 from (N, 68, 2): 13 points of the forehead, left to right, are extrapolated.

    They lie on half an ellipse over the line between points 0 and 16 (the temples), as high as FOREHEAD_HEIGHT above
    point 27. Each is a fixed linear combination of landmarks, so the construction follows any affine map of the face.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 3 or points.shape[1:] != (68, 2):
        raise ValueError(f"to_81 takes landmarks of shape (N, 68, 2), not {points.shape}")
    centre = (points[:, 0] + points[:, 16]) / 2
    across = (points[:, 16] - points[:, 0]) / 2
    nasion, chin = points[:, 27], points[:, 8]
    up = nasion + FOREHEAD_HEIGHT * (nasion - chin) - centre
    angle = np.radians(np.linspace(*ARC_DEGREES, 13))[None, :, None]
    forehead = centre[:, None] - np.cos(angle) * across[:, None] + np.sin(angle) * up[:, None]
    return np.concatenate([points, forehead], axis=1).astype(np.float32)


def _flip_order() -> NDArray[np.int64]:
    order = np.arange(81)
    for first, last in ((0, 16), (17, 26), (31, 35), (48, 54), (55, 59), (60, 64), (65, 67), (68, 80)):
        order[first : last + 1] = order[first : last + 1][::-1]
    order[36:40], order[42:46] = [45, 44, 43, 42], [39, 38, 37, 36]
    order[40:42], order[46:48] = [47, 46], [41, 40]
    return order


FLIP_ORDER = _flip_order()
"""(81,): landmark i of a mirrored face is landmark FLIP_ORDER[i] of the face; the first 68 serve 68 points."""


def flip_points(points: NDArray[Any], width: int) -> Points:
    """Landmarks (..., 68 or 81, 2) of the horizontally mirrored picture of `width` pixels, x to width - x.

    The mirror axis follows specs/blending.md (not width - 1 - x), half a pixel off the exact mirror of pixel centres.
    """
    count = points.shape[-2]
    flipped = np.array(points[..., FLIP_ORDER[:count], :], np.float32)
    flipped[..., 0] = width - flipped[..., 0]
    return flipped
