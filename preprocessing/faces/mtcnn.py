"""MTCNN (Zhang et al., IEEE SPL 2016) with facenet-pytorch's weights: profiles, turned heads and small faces.

The cascade gives the boxes of facenet_pytorch.MTCNN, its roundings included: the weights and ACCEPT are tuned to them.
"""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preprocessing.faces.base import rescaled, to_hog_box, without_duplicates
from preprocessing.faces.mtcnn_networks import BATCH, INSTALL, CascadeNetwork, load_network, package_folder
from preprocessing.models import ModelFileError
from preprocessing.types import Detection, Image

# Medians over 221 pairs of boxes on portraits and their mirror images, spread 9 % of the side (HOG's own steps of scale
# are 20 %) and 4 % in height: python -m benchmarks.tracking --boxes FOLDER measures what is left.
MTCNN_SIDE = 0.94
MTCNN_DOWN = 0.072

ACCEPT = 0.9
"""Least face probability of the last network. The paper's 0.7 lets hands and ears through in most videos."""
PROPOSE, REFINE = 0.6, 0.7
"""Least face probabilities of the first and the second network."""
PYRAMID_STEP = 0.709
"""About the square root of one half: each picture of the pyramid has half the area of the one before."""
CELL, STRIDE = 12, 2
"""P-Net looks at squares of CELL pixels, STRIDE pixels apart."""

Boxes = NDArray[np.float32]


def mtcnn_installed() -> bool:
    """Whether the detector "mtcnn" can be made here."""
    return package_folder() is not None


def mtcnn_score(probability: float) -> float:
    """The score of a face probability of ACCEPT or more: 0 at 0.9, 0.5 at 0.99, 1 at 0.999, at most 2.5.

    So it reads like dlib's: 0 is just accepted, most false finds stay below 0.5, most faces are above 1.
    """
    return (-math.log10(max(1 - probability, 1e-6)) - 1) / 2


class MtcnnCascade:
    """P-Net proposes squares in a pyramid of pictures, R-Net and O-Net look closer at those that are left."""

    def __init__(self) -> None:
        self._propose, self._refine, self._decide = (load_network(n) for n in ("pnet", "rnet", "onet"))

    @torch.inference_mode()
    def find(self, image: Image, smallest: int) -> tuple[Boxes, NDArray[np.float32]]:
        """Faces of at least about `smallest` pixels in `image` (H, W, 3), H * W below 8 million: boxes (N, 4) in its
        pixels, possibly reaching over the edge, and probabilities (N,) in ACCEPT..1."""
        sums = cv2.integral(image)
        boxes = self._proposals(sums, smallest)

        boxes, scores, shifts = _judged(self._refine, sums, boxes, 24, REFINE)
        kept = _best(boxes, scores, 0.7)
        boxes = _squared(_shifted(boxes[kept], shifts[kept], 1))

        boxes, scores, shifts = _judged(self._decide, sums, boxes, 48, ACCEPT)
        boxes = _shifted(boxes, shifts, 1)
        kept = _best(boxes, scores, 0.7, of_smaller=True)
        return boxes[kept], scores[kept]

    def _proposals(self, sums: NDArray[np.int32], smallest: int) -> Boxes:
        """Squares (N, 4) that may hold a face."""
        height, width = sums.shape[0] - 1, sums.shape[1] - 1
        low, high = np.zeros((1, 2), np.int64), np.array([[width, height]])
        scale = CELL / smallest
        found = [np.empty((0, 9), np.float32)]
        while min(height, width) * scale >= CELL:
            small = _resized(sums, low, high, int(height * scale + 1), int(width * scale + 1))
            face, shifts = self._propose(small)
            rows, columns = torch.nonzero(face[0] >= PROPOSE, as_tuple=True)
            corners = torch.stack([columns, rows], 1).numpy().astype(np.float32) * STRIDE
            squares = [np.floor((corners + 1) / scale), np.floor((corners + CELL) / scale)]
            scores = face[0, rows, columns].numpy()
            candidates = np.hstack([*squares, scores[:, None], shifts[0, :, rows, columns].numpy().T])
            found.append(candidates[_best(candidates[:, :4], scores, 0.5)])
            scale *= PYRAMID_STEP
        together = np.concatenate(found)
        kept = together[_best(together[:, :4], together[:, 4], 0.7)]
        return _squared(_shifted(kept[:, :4], kept[:, 5:], 0))


def _judged(
    network: CascadeNetwork, sums: NDArray[np.int32], boxes: Boxes, side: int, accept: float
) -> tuple[Boxes, NDArray[np.float32], NDArray[np.float32]]:
    """The boxes whose content, brought to `side` pixels, `network` takes for a face with more than `accept`; their
    probabilities (N,) and shifts (N, 4)."""
    # Pixels are counted from 1, the last one included, as in Matlab.
    edges = np.trunc(boxes).astype(np.int64)
    low, high = np.maximum(edges[:, :2], 1) - 1, np.minimum(edges[:, 2:], (sums.shape[1] - 1, sums.shape[0] - 1))
    inside = (high > low).all(1)
    boxes, low, high = boxes[inside], low[inside], high[inside]
    scores, shifts = np.empty(len(boxes), np.float32), np.empty((len(boxes), 4), np.float32)
    for start in range(0, len(boxes), BATCH):
        part = slice(start, start + BATCH)
        face, shift = network(_resized(sums, low[part], high[part], side, side))
        scores[part], shifts[part] = face.numpy(), shift.numpy()
    taken = scores > accept
    return boxes[taken], scores[taken], shifts[taken]


def _resized(
    sums: NDArray[np.int32], low: NDArray[np.int64], high: NDArray[np.int64], rows: int, columns: int
) -> Tensor:
    """The parts [low, high) (N, 2) of a picture with the sum table `sums`, each as (3, rows, columns): every pixel the
    mean of the whole pixels that it touches. With the table the work does not grow with the parts."""
    left, right = _bins(low[:, :1], high[:, :1], columns)
    top, bottom = _bins(low[:, 1:], high[:, 1:], rows)
    count = ((bottom - top)[:, :, None] * (right - left)[:, None, :])[..., None]
    left, right, top, bottom = left[:, None], right[:, None], top[..., None], bottom[..., None]
    total = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return torch.from_numpy((total / count).astype(np.float32)).permute(0, 3, 1, 2).contiguous()


def _bins(low: NDArray[np.int64], high: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First pixels and ends (N, count) of the `count` parts of [low, high) (N, 1), rounded outwards."""
    step, length = np.arange(count), high - low
    return low + step * length // count, low - (-(step + 1) * length // count)


def _shifted(boxes: Boxes, shifts: NDArray[np.float32], last: int) -> Boxes:
    """The boxes (N, 4) with their edges moved; `last` is 1 where the last pixel counts in their size."""
    size = boxes[:, 2:] - boxes[:, :2] + np.float32(last)
    return boxes + shifts * np.tile(size, 2)


def _squared(boxes: Boxes) -> Boxes:
    """Squares of the longer side about the boxes' centres."""
    size = boxes[:, 2:] - boxes[:, :2]
    side = size.max(1, keepdims=True)
    low = boxes[:, :2] + size * np.float32(0.5) - side * np.float32(0.5)
    return np.hstack([low, low + side])


def _best(boxes: Boxes, scores: NDArray[np.float32], most: float, of_smaller: bool = False) -> NDArray[np.intp]:
    """Rows of the boxes (N, 4) by falling score, without those that overlap a better one by more than `most` of the
    union or, in pixels with the last one included, of the smaller box (non-maximum suppression)."""
    order = np.argsort(scores, kind="stable")[::-1] if of_smaller else np.argsort(-scores, kind="stable")
    left, top, right, bottom = boxes.T
    extra = np.float32(of_smaller)
    areas = (right - left + extra) * (bottom - top + extra)
    kept: list[int] = []
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(int(first))
        across = np.minimum(right[first], right[rest]) - np.maximum(left[first], left[rest]) + extra
        down = np.minimum(bottom[first], bottom[rest]) - np.maximum(top[first], top[rest]) + extra
        shared = np.maximum(across, 0) * np.maximum(down, 0)
        whole = np.minimum(areas[first], areas[rest]) if of_smaller else areas[first] + areas[rest] - shared
        order = rest[shared / np.maximum(whole, np.float32(1e-6)) <= np.float32(most)]
    return np.array(kept, np.intp)


@functools.cache  # a server makes a detector for every analysis; the three networks hold no state
def _cascade() -> MtcnnCascade:
    return MtcnnCascade()


class MtcnnDetector:
    """Faces of at least `smallest` pixels at the scale where it looks; score: see mtcnn_score."""

    def __init__(self, longest: int, max_scale: float, smallest: int) -> None:
        if not mtcnn_installed():
            raise ModelFileError(INSTALL)
        self._cascade = _cascade()
        self._longest, self._max_scale, self._smallest = longest, max_scale, smallest

    def detect(self, image: Image) -> list[Detection]:
        small, scale = rescaled(image, self._longest, self._max_scale)
        if min(small.shape[:2]) < self._smallest:
            return []
        boxes, probabilities = self._cascade.find(small, self._smallest)
        found = [
            Detection(to_hog_box(box / scale, MTCNN_SIDE, 0.0, MTCNN_DOWN), mtcnn_score(float(probability)))
            for box, probability in zip(boxes, probabilities, strict=True)
        ]
        return without_duplicates(sorted(found, key=lambda face: -face.score))

    def reset(self) -> None:
        """Nothing is remembered."""
