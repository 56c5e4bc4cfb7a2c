"""Geometry of self-blending: smooth elastic deformation of masks and affine jitter (specs/blending.md, 3.3)."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.blending.masks import Mask
from preprocessing.types import Image

ELASTIC_STD = 1.14
"""Standard deviation in pixels of the reference's displacement: white noise in -1..1, Gaussian sigma 7, times 50."""
ELASTIC_SIGMA = 7.0


def elastic_field(
    shape: tuple[int, int],
    rng: np.random.Generator,
    std: float = ELASTIC_STD,
    size: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """Displacements (H, W, 2) float32 in pixels, x and y independent, correlated over about 10 px.

    Noise is blurred at a quarter of the resolution and enlarged: the reference's statistics at a tenth of its cost.
    `size` (H, W): the same field, still in pixels of `shape`, sampled at another number of places.
    """
    # A border of noise beyond the picture: reflected noise would move the edges more than the middle.
    border = 8
    height, width = (math.ceil(n / 4) + 2 * border for n in shape)
    noise = rng.uniform(-1, 1, (height, width, 2)).astype(np.float32)
    sigma = ELASTIC_SIGMA / 4
    small = cv2.GaussianBlur(noise, (15, 15), sigma)[border:-border, border:-border]
    # Uniform noise has variance 1/3; a Gaussian blur of sigma divides the deviation by 2 sqrt(pi) sigma.
    gain = std * math.sqrt(3) * 2 * math.sqrt(math.pi) * sigma
    return cv2.resize(small * gain, (size or shape)[::-1], interpolation=cv2.INTER_CUBIC)


def displace(mask: Mask, field: NDArray[np.float32]) -> Mask:
    """The mask (H, W) sampled at each pixel plus its displacement, bilinear, borders reflected."""
    rows, columns = np.indices(mask.shape, dtype=np.float32)
    moved = cv2.remap(
        mask, columns + field[..., 0], rows + field[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.clip(moved, 0, 1)


def affine_jitter(
    shape: tuple[int, int],
    rng: np.random.Generator,
    scale: float = 0.95,
    shift: tuple[float, float] = (0.03, 0.015),
    centre: tuple[float, float] | None = None,
) -> NDArray[np.float64]:
    """A map (2, 3): width and height scaled independently by `scale` to its inverse about `centre` (default the
    picture's), then moved by up to `shift` of the width and the height."""
    height, width = shape
    cx, cy = centre or (width / 2 - 0.5, height / 2 - 0.5)
    sx, sy = rng.uniform(scale, 1 / scale, 2)
    tx, ty = rng.uniform(-shift[0], shift[0]) * width, rng.uniform(-shift[1], shift[1]) * height
    return np.array([[sx, 0, cx - sx * cx + tx], [0, sy, cy - sy * cy + ty]])


def warp(image: Image, mask: Mask, matrix: NDArray[np.float64]) -> tuple[Image, Mask]:
    """Image (bilinear, border pixels repeated) and mask (nearest, 0 outside) moved together.

    The reference fills the border with black, which shows wherever a mask reaches it; a repeated border does not.
    """
    size = (mask.shape[1], mask.shape[0])
    moved = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return moved, cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_NEAREST)


def warp_picture(image: Image, matrix: NDArray[np.float64], size: tuple[int, int], border: int) -> Image:
    """The picture through an affine map (2, 3), bilinear, `size` (H, W), OpenCV's `border` outside (0 where constant).

    With a fourth channel along: OpenCV's warp of four channels takes half the time of its warp of three.
    """
    four = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    moved = cv2.warpAffine(four, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=border)
    return cv2.cvtColor(moved, cv2.COLOR_RGBA2RGB)
