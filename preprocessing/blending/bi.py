"""Blended images (BI): another person's face with a similar shape, blended in without alignment.

Li et al., "Face X-ray for More General Face Forgery Detection", CVPR 2020; the steps and numbers are those of the
authors' generator (specs/blending.md, section 2), whose soft border replaces the paper's blur.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.blending.colour import jpeg
from preprocessing.blending.deform import deform
from preprocessing.blending.items import Window, cropped, mirrored
from preprocessing.blending.masks import HULLS, Mask, hull_mask
from preprocessing.blending.pseudofake import (
    MAX_REDRAWS,
    BlendError,
    Face,
    PseudoFake,
    blend,
    checked,
    extent,
    too_small,
)
from preprocessing.types import Image

BI_SIDE = 317
"""Pixels of the published crops; sides and crops below are relative to it."""
SMALLEST_WORK = 128
FEATHER = 0.2
"""Of the longer side of the mask's box: how far from its hull the weights reach 1."""
Crop = Literal["bi", "ufx", "none"]
CROPS: dict[Crop, tuple[int, int, int, int]] = {
    "bi": (60, 317, 30, 287),
    "ufx": (60, 316, 30, 286),
    "none": (0, 317, 0, 317),
}
"""First row, end, first column, end of what the network sees: the authors' 257 px and the HRNet repository's 256."""


def bi(image: Image, points: NDArray[np.floating], rng: np.random.Generator, partner: Face) -> PseudoFake:
    """The background `image` (H, W, 3) uint8 RGB with the `partner`'s face; landmarks (68 or 81, 2) in its pixels.

    Both crops should share their framing (published: 317 x 317, a face box enlarged twice) and the partner should have
    similar landmarks (`PartnerIndex`): nothing is aligned. `real` goes through the same change of resolution as the
    fake; the authors' generator leaves it out, and a detector could tell the two by it.

    Raises:
        BlendError: landmarks of another shape, not finite, or (all but) outside the picture.
    """
    points = checked(image, points, "blending")
    checked(partner.image, partner.points, "blending (its partner)")
    height, width = image.shape[:2]
    for redraws in range(MAX_REDRAWS):
        side = int(rng.integers(min(SMALLEST_WORK, max(height, width)), max(height, width) + 1))
        scale = side / max(height, width)
        shape = (max(round(height * scale), 2), max(round(width * scale), 2))
        factors = np.array([shape[1] / width, shape[0] / height], np.float32)
        mask = random_mask(points * factors, shape, rng)
        if not mask.any():
            continue
        weights = feathered(mask)
        if too_small(weights):
            continue
        background = shrink(image, shape)
        rows, columns = extent(weights)
        near = mask[rows, columns]
        source = _transfer(shrink(partner.image, shape)[rows, columns], background[rows, columns], near)
        fake = background.copy()
        fake[rows, columns] = blend(source, background[rows, columns], weights[rows, columns])
        back = (width, height)
        real, fake, soft = (
            cv2.resize(part, back, interpolation=cv2.INTER_LINEAR) for part in (background, fake, weights)
        )
        return PseudoFake(real, fake, soft, points, "bi", 1.0, redraws)
    raise BlendError(f"{MAX_REDRAWS} masks in a row were empty: the landmarks lie outside the picture, or on one point")


def random_mask(points: NDArray[np.float32], shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One of the hulls, deformed, with every pixel that is not whole removed, then eroded or dilated: 0 or 1."""
    hull = hull_mask(HULLS[int(rng.integers(len(HULLS)))], points, shape)
    # Interpolation of ones gives one: weights are multiples of 1/1024.
    mask = (deform(hull, rng) >= 1).view(np.uint8)
    if rng.random() < 0.5:
        return cv2.erode(mask, _square(int(rng.integers(1, 22))))
    return cv2.dilate(mask, _square(int(rng.integers(1, 6))))


def feathered(mask: NDArray[np.uint8]) -> Mask:
    """Weights (H, W) in 0..1 of a mask of 0 and 1 that is not empty: the distance to the border of its convex hull in
    units of FEATHER times its longer side, at most 1; 0 outside the mask.

    The hull is convex, so where the mask is not, weights jump at its edge, as in the authors' code.
    """
    rows, columns = extent(mask)
    # One pixel of outside all around, for the distances.
    near = cv2.copyMakeBorder(mask[rows, columns], 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    hull = cv2.fillConvexPoly(np.zeros_like(near), cv2.convexHull(cv2.findNonZero(near)), 1)
    feather = FEATHER * max(near.shape[0] - 3, near.shape[1] - 3, 1)
    # From pixel centre to outside pixel centre: half a pixel more than to the border between them, on average.
    distance = cv2.distanceTransform(hull, cv2.DIST_L2, 5) - np.float32(0.5)
    weights = np.zeros(mask.shape, np.float32)
    weights[rows, columns] = (np.clip(distance / np.float32(feather), 0, 1) * near)[1:-1, 1:-1]
    return weights


def shrink(image: Image, shape: tuple[int, int]) -> Image:
    """The picture at `shape` (H, W), as scikit-image resizes: bilinear, where it shrinks after a Gaussian of deviation
    (factor - 1) / 2."""
    # Below a tenth of a pixel a Gaussian changes no 8-bit value by more than rounding.
    sigmas = [max((old / new - 1) / 2, 0.1) for old, new in zip(image.shape[:2], shape, strict=True)]
    if max(sigmas) > 0.1:
        image = cv2.GaussianBlur(image, (0, 0), sigmaX=sigmas[1], sigmaY=sigmas[0])
    return cv2.resize(image, shape[::-1], interpolation=cv2.INTER_LINEAR)


def _transfer(source: Image, target: Image, mask: NDArray[np.uint8]) -> Image:
    """The source with the target's mean colour inside the mask, channel by channel; clipped, truncated."""
    shift = np.array(cv2.mean(target, mask)) - cv2.mean(source, mask)
    levels = np.clip(np.arange(256)[:, None] + shift[:3], 0, 255).astype(np.uint8)
    return cv2.LUT(source, levels.reshape(1, 256, 3))


def _square(side: int) -> NDArray[np.uint8]:
    side += side % 2 == 0
    return np.ones((side, side), np.uint8)


# --- after blending


@dataclass(frozen=True)
class BiChanges:
    """What real and fake go through alike (steps 10 to 12); None: left out. `nearest` shrinks by nearest sampling."""

    side: int | None
    nearest: bool
    quality: int | None
    flip: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> BiChanges:
        """Resolution, JPEG and flip with odds 1/2 each."""
        use = rng.random(4) < 0.5
        side, quality = int(rng.integers(64, BI_SIDE + 1)), int(rng.integers(60, 101))
        return cls(side if use[0] else None, bool(use[1]), quality if use[2] else None, bool(use[3]))

    def __call__(self, image: Image) -> Image:
        """The picture at its own size, not flipped yet."""
        height, width = image.shape[:2]
        if self.side is not None:
            from PIL import Image as Pillow

            small = (max(round(width * self.side / BI_SIDE), 1), max(round(height * self.side / BI_SIDE), 1))
            # Pillow's bilinear filter grows with the shrinkage, which OpenCV's does not.
            how = Pillow.Resampling.NEAREST if self.nearest else Pillow.Resampling.BILINEAR
            image = np.asarray(Pillow.fromarray(image).resize(small, how))
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        return jpeg(image, self.quality) if self.quality is not None else image


def bi_item(
    image: Image, points: NDArray[np.floating], rng: np.random.Generator, partner: Face, crop: Crop = "bi"
) -> PseudoFake:
    """BI's training item: resolution, JPEG, crop and flip after `bi`, the same for real and fake.

    A 317-px crop gives 257 x 257 ("bi") or 256 x 256 ("ufx"); other sizes give the same part of the face. The X-ray is
    `face_xray(item.mask)`; as published, the change of resolution does not blur it.
    """
    pair = bi(image, points, rng, partner)
    change = BiChanges.draw(rng)
    window = crop_window(pair.mask.shape, crop)
    pair = cropped(replace(pair, real=change(pair.real), fake=change(pair.fake)), window)
    return mirrored(pair) if change.flip else pair


def crop_window(shape: tuple[int, ...], crop: Crop) -> Window:
    """Rows and columns that the network sees of a crop of `shape`, the published ones of 317 px."""
    top, bottom, left, right = CROPS[crop]
    down, across = shape[0] / BI_SIDE, shape[1] / BI_SIDE
    return slice(round(top * down), round(bottom * down)), slice(round(left * across), round(right * across))
