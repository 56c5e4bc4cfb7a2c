"""A search over detectors and scales that spends what the picture needs, and in a video little more than once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from preprocessing.faces.base import SAME_FACE_OVERLAP, FaceDetector, boxes_of, overlaps, without_duplicates
from preprocessing.faces.dlib_detectors import CnnDetector, HogDetector
from preprocessing.faces.mtcnn import MtcnnDetector, mtcnn_installed
from preprocessing.types import Detection, Image

DetectorName = Literal["auto", "hog", "cnn", "mtcnn"]

WEAK = 0.5
"""A face scored lower counts only where a face is already known or another kind of detector sees it too: alone, half of
HOG's and most of MTCNN's finds below it are background."""
DOUBTFUL = 0.3
"""Where nothing better is found, faces of this score count all the same."""
LONGEST_WAIT = 16
"""Detections from one fruitless search to the next, at most; the wait doubles from 1."""
SEARCH_EVERY = 32
"""Detections after which a search looks for newcomers that the chosen stage cannot see."""


class SearchingDetector:
    """Runs stages, cheapest first, in one of two ways.

    A *search* runs them all and merges what they find. In a still every call is one. In a video the cheapest stage that
    found all that the search found serves the next pictures; it is searched again when that stage loses a face, and
    now and then for newcomers. Fruitless searches become rarer, so a video without a face costs little.
    """

    def __init__(self, stages: Sequence[FaceDetector], still: bool) -> None:
        self._stages, self._still = list(stages), still
        self.reset()

    def reset(self) -> None:
        """The next picture is searched by all stages."""
        self._chosen: list[FaceDetector] = []
        self._known: list[Detection] = []
        self._since = 0
        self._wait = 1

    def detect(self, image: Image) -> list[Detection]:
        """Faces of `image` (H, W, 3), by stage and falling score, none twice."""
        if self._still or not self._chosen:
            return self._search(image)
        found = without_duplicates([face for stage in self._chosen for face in stage.detect(image)])
        found = [face for face in found if face.score >= WEAK or self._is_known(face)]
        self._since += 1
        if len(found) >= max(len(self._known), 1):
            self._known, self._wait = found, 1
            return self._search(image) if self._since >= SEARCH_EVERY else found
        if self._since < self._wait:
            return found
        before, wait = len(found), self._wait
        found = self._search(image)
        self._wait = 1 if len(found) > before else min(2 * wait, LONGEST_WAIT)
        return found

    def _is_known(self, face: Detection) -> bool:
        return bool(self._known) and bool((overlaps(face.box[None], boxes_of(self._known)) > 0.2).any())

    def _search(self, image: Image) -> list[Detection]:
        # The stages of a still run side by side: dlib and torch both let other threads go on.
        others = [_threads().submit(stage.detect, image) for stage in self._stages[1:]] if self._still else []
        by_stage = [self._stages[0].detect(image)]
        by_stage += [one.result() for one in others] or [stage.detect(image) for stage in self._stages[1:]]
        sure = [self._sure(i, by_stage) for i in range(len(by_stage))]
        if not any(sure):
            sure = [[face for face in faces if face.score >= DOUBTFUL] for faces in by_stage]
        by_stage = sure
        # The surest find of a face counts; among sure ones the earlier stage's.
        merged = without_duplicates(sorted((f for faces in by_stage for f in faces), key=lambda f: f.score < WEAK))
        self._chosen = self._cheapest(by_stage, merged)
        self._known = merged
        self._since = 0
        return merged

    def _sure(self, stage: int, by_stage: list[list[Detection]]) -> list[Detection]:
        """The stage's faces without the weak ones that no detector of another kind found too."""
        kind = type(self._stages[stage])
        others = [f for i, faces in enumerate(by_stage) if type(self._stages[i]) is not kind for f in faces]
        seen = _which(by_stage[stage], others)
        return [face for face, also in zip(by_stage[stage], seen, strict=True) if face.score >= WEAK or also]

    def _cheapest(self, by_stage: list[list[Detection]], merged: list[Detection]) -> list[FaceDetector]:
        """The cheapest stage that found all of `merged`, else the fewest stages that do together (greedily)."""
        found = [_which(merged, faces) for faces in by_stage]
        chosen: list[int] = []
        covered = np.zeros(len(merged), bool)
        while not chosen or not covered.all():
            best = max(range(len(found)), key=lambda i: (int((found[i] & ~covered).sum()), -i))
            chosen.append(best)
            covered |= found[best]
        return [self._stages[i] for i in sorted(chosen)]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2, "faces")


def _which(all_faces: Sequence[Detection], faces: Sequence[Detection]) -> NDArray[np.bool_]:
    """For each of `all_faces` whether it is among `faces`; the overlap is that of one face found twice."""
    same: NDArray[np.bool_] = overlaps(boxes_of(all_faces), boxes_of(faces)) >= SAME_FACE_OVERLAP
    return np.any(same, axis=1)


def create_face_detector(name: DetectorName, still: bool) -> FaceDetector:
    """The detector of that name, for one picture at a time (`still`) or for the frames of a video in their order.

    "hog" always works. "mtcnn" needs facenet-pytorch. "cnn" takes seconds a frame on a CPU. "auto" is HOG with MTCNN
    for the faces that HOG does not find (profiles, turned heads, small faces), and HOG alone where MTCNN is missing.

    Raises:
        ModelFileError: the detector's package or model file is not installed, with the command that installs it.
        ValueError: no such detector.
    """
    # HOG needs 80 px: at 640 it finds faces of an eighth of the picture's longer side, at 1280 of a sixteenth.
    # In a still HOG at 4x finds the small frontal ones; MTCNN at 20 px would cost four times the rest of the analysis.
    hog = [(1280, 4.0)] if still else [(640, 1.0), (1280, 4.0)]
    mtcnn = [(1280, 2.0, 40)] if still else [(640, 2.0, 30), (1280, 2.0, 30)]
    if name == "cnn":
        return SearchingDetector([CnnDetector(1280 if still else 640, 3.0)], still)
    if name == "mtcnn":
        return SearchingDetector([MtcnnDetector(*stage) for stage in mtcnn], still)
    if name == "hog" or (name == "auto" and not mtcnn_installed()):
        return SearchingDetector([HogDetector(*stage) for stage in [*hog, (2560, 2.0)]], still)
    if name == "auto":
        return SearchingDetector(
            [HogDetector(*stage) for stage in hog] + [MtcnnDetector(*stage) for stage in mtcnn], still
        )
    raise ValueError(f"no face detector is called {name!r}: there are auto, hog, cnn and mtcnn")
