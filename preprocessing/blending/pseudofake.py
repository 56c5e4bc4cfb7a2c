"""What every generator of pseudo-fakes takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.blending.masks import Mask
from preprocessing.types import Image, Points

MAX_REDRAWS = 10
"""Masks that come out empty are drawn again this often before it is an error."""
SMALLEST_MASK = 0.0005
"""Of the picture, the sum of blend weights below which a mask counts as empty: a fake nobody could see is no fake."""


class BlendError(ValueError):
    """A picture and landmarks that no fake can be made from."""


@dataclass(frozen=True)
class Face:
    """A picture (H, W, 3) uint8 RGB with one face's landmarks (68 or 81, 2) in its pixels."""

    image: Image
    points: Points


@dataclass(frozen=True)
class PseudoFake:
    """A real picture, its fake, and where the two were blended; all in the same coordinates.

    `real` and `fake` (H, W, 3) uint8 RGB; `mask` (H, W) float32 in 0..1, the weights M before the blend ratio;
    `points` (68 or 81, 2); `family` the generator's name. fake = ratio M source + (1 - ratio M) real, so the two are
    equal where M is 0, until they are changed further. `redraws` counts masks that came out empty and were drawn again.
    """

    real: Image
    fake: Image
    mask: Mask
    points: Points
    family: str
    ratio: float = 1.0
    redraws: int = 0

    @property
    def weights(self) -> Mask:
        """ratio M: the weights that the blend really had."""
        return self.mask * np.float32(self.ratio)


def checked(image: Image, points: NDArray[np.floating], what: str = "a pseudo-fake") -> Points:
    """The landmarks as float32, after a look at both.

    Raises:
        BlendError: not a uint8 RGB picture, or landmarks of another shape, not finite.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise BlendError(f"{what} takes a picture (H, W, 3) of uint8, not {image.shape} of {image.dtype}")
    if points.ndim != 2 or points.shape not in ((68, 2), (81, 2)) or not np.isfinite(points).all():
        raise BlendError(f"{what} takes 68 or 81 finite landmarks of one face, not an array {points.shape}")
    return np.asarray(points, np.float32)


def too_small(mask: Mask) -> bool:
    """Whether a mask counts as empty."""
    return float(mask.sum()) < SMALLEST_MASK * mask.size


def extent(mask: NDArray[Any]) -> tuple[slice, slice]:
    """Rows and columns of the smallest box that holds every pixel above 0; the mask must have one."""
    x, y, width, height = cv2.boundingRect((mask > 0).view(np.uint8))
    return slice(y, y + height), slice(x, x + width)


def blend(source: Image, target: Image, weights: Mask) -> Image:
    """weights * source + (1 - weights) * target, truncated to uint8."""
    below = target.astype(np.float32)
    mixed = source.astype(np.float32)
    mixed -= below
    mixed *= weights[..., None]
    mixed += below
    # The small constant keeps a blend of two equal values from being truncated to the level below.
    mixed += np.float32(1e-3)
    np.clip(mixed, 0, 255, out=mixed)
    return mixed.astype(np.uint8)
