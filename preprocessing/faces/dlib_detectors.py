"""dlib's two detectors, each at one fixed scale: HOG (Dalal and Triggs features, King 2015) and the mmod CNN."""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np

from preprocessing.faces.base import rescaled, to_hog_box, without_duplicates
from preprocessing.models import ModelFileError, bundled_dlib_model
from preprocessing.types import Detection, Image

# Medians over 59 pairs of boxes on portraits and their mirror images, spread 9 % of the side: python -m
# benchmarks.tracking --boxes FOLDER measures what is left. The shift to the right is in mirror images too: the CNN's.
CNN_SIDE = 1.10
CNN_RIGHT = 0.066
CNN_DOWN = 0.084


_of_thread = threading.local()


def _frontal_detector() -> Any:
    """dlib's detector: half a second to make, and not to be used by two threads at once, so each has its own."""
    import dlib

    if not hasattr(_of_thread, "detector"):
        _of_thread.detector = dlib.get_frontal_face_detector()
    return _of_thread.detector


class HogDetector:
    """Upright, near-frontal faces of at least 80 pixels at the scale where it looks. Score: above 0, often 1 to 3."""

    def __init__(self, longest: int, max_scale: float) -> None:
        self._longest, self._max_scale = longest, max_scale

    def detect(self, image: Image) -> list[Detection]:
        small, scale = rescaled(image, self._longest, self._max_scale)
        boxes, scores, _ = _frontal_detector().run(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), 0, 0.0)
        found = [
            Detection(
                np.array([b.left(), b.top(), b.right(), b.bottom()], np.float32) / np.float32(scale), float(score)
            )
            for b, score in zip(boxes, scores, strict=True)
        ]
        return without_duplicates(sorted(found, key=lambda face: -face.score))

    def reset(self) -> None:
        """Nothing is remembered."""


class CnnDetector:
    """Faces in more poses than HOG, at hundreds of times its cost on a CPU. Score: above 0, good ones about 1."""

    def __init__(self, longest: int, max_scale: float) -> None:
        import dlib

        path = bundled_dlib_model("mmod_human_face_detector.dat")
        try:
            self._detector = dlib.cnn_face_detection_model_v1(str(path))
        except RuntimeError as error:
            raise ModelFileError(f"{path} is damaged: {error}") from error
        self._longest, self._max_scale = longest, max_scale

    def detect(self, image: Image) -> list[Detection]:
        small, scale = rescaled(image, self._longest, self._max_scale)
        found = []
        for face in self._detector(np.ascontiguousarray(small), 0):
            r = face.rect
            box = np.array([r.left(), r.top(), r.right(), r.bottom()], np.float32) / np.float32(scale)
            found.append(Detection(to_hog_box(box, CNN_SIDE, CNN_RIGHT, CNN_DOWN), float(face.confidence)))
        return without_duplicates(sorted(found, key=lambda face: -face.score))

    def reset(self) -> None:
        """Nothing is remembered."""
