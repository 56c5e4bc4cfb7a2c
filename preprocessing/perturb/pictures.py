"""Perturbations of one picture (H, W, 3) uint8 RGB: what capture, editing and storage do to it.

Random ones take what they draw from the generator given; all keep the size but `limit_side`.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.blending.colour import jpeg
from preprocessing.types import Image

STUDIO_LUMA, STUDIO_CHROMA = 219 / 255, 224 / 255
"""Share of the 8-bit levels that luma and chroma take in BT.601's studio range."""
SMALLEST_BLURRED = 250
"""Pixels of the shorter side below which blur stays what it is there: a sigma under half a pixel changes nothing."""
BLOCK = 8
BLOCK_GREY = 128
BLOCK_REFERENCE = 256
"""Shorter side in pixels to which the published counts of blocks relate."""


def lower_resolution(image: Image, factor: float) -> Image:
    """Each side divided by `factor` (whole-area average) and brought back bilinearly."""
    height, width = image.shape[:2]
    small = cv2.resize(
        image, (max(round(width / factor), 1), max(round(height / factor), 1)), interpolation=cv2.INTER_AREA
    )
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def limit_side(image: Image, side: int) -> Image:
    """Shrunk until the longer side is `side` pixels, never enlarged: the only one that changes the size."""
    factor = side / max(image.shape[:2])
    if factor >= 1:
        return image
    size = (max(round(image.shape[1] * factor), 2), max(round(image.shape[0] * factor), 2))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def blur(image: Image, share: float) -> Image:
    """Gaussian of sigma `share` of the shorter side (or of SMALLEST_BLURRED pixels)."""
    return cv2.GaussianBlur(image, (0, 0), share * max(min(image.shape[:2]), SMALLEST_BLURRED))


def noise(image: Image, sigma: float, rng: np.random.Generator) -> Image:
    """White Gaussian noise of standard deviation `sigma` in levels, in each channel for itself."""
    field = rng.standard_normal(image.shape, np.float32) * np.float32(sigma)
    return _levels(image.astype(np.float32) + field)


def contrast(image: Image, factor: float) -> Image:
    """The distance of each level from the picture's mean grey, times `factor`."""
    middle = float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean())
    return cv2.LUT(image, _levels(middle + (np.arange(256) - middle) * factor))


def compress(image: Image, quality: int) -> Image:
    """JPEG, 4:2:0."""
    return jpeg(image, quality)


# --- DeeperForensics-1.0 (Jiang et al., CVPR 2020, section 3.3; levels as published with its perturbation code)


def saturation(image: Image, factor: float) -> Image:
    """CS: the chroma components (BT.601) times `factor`; 0 leaves grey."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None]
    return _levels(grey + (image.astype(np.float32) - grey) * np.float32(factor))


def darken(image: Image, factor: float) -> Image:
    """CC: every level times `factor`, truncated. The published "contrast change" keeps black where it is."""
    return cv2.LUT(image, (np.arange(256) * factor).astype(np.uint8))


def block_count(shape: tuple[int, ...], level: int) -> int:
    """How many blocks BW draws: `level` for each whole 256 px of the shorter side.

    The published rule gives none below 256 px; there the count goes with the area, at least one.
    """
    side = min(shape[:2])
    if side >= BLOCK_REFERENCE:
        return side // BLOCK_REFERENCE * level
    return max(round(level * (side / BLOCK_REFERENCE) ** 2), 1)


def blocks(image: Image, level: int, rng: np.random.Generator) -> Image:
    """BW: grey blocks of 8 x 8 at random places."""
    height, width = image.shape[:2]
    result = image.copy()
    count = block_count(image.shape, level)
    rows = rng.integers(0, max(height - BLOCK, 1), count)
    columns = rng.integers(0, max(width - BLOCK, 1), count)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        result[row : row + BLOCK, column : column + BLOCK] = BLOCK_GREY
    return result


def noise_in_components(image: Image, variance: float, rng: np.random.Generator) -> Image:
    """GNC: white Gaussian noise of `variance` (of levels in 0..1) in the studio-range components Y, Cb and Cr."""
    sigma = float(np.sqrt(variance)) * 255
    field = rng.standard_normal(image.shape, np.float32) * np.array(
        [sigma / STUDIO_LUMA, sigma / STUDIO_CHROMA, sigma / STUDIO_CHROMA], np.float32
    )
    luma, blue, red = field[..., 0], field[..., 1], field[..., 2]
    # BT.601: R = Y + 1.403 Cr, G = Y - 0.344 Cb - 0.714 Cr, B = Y + 1.773 Cb.
    shift = np.stack([luma + 1.403 * red, luma - 0.344 * blue - 0.714 * red, luma + 1.773 * blue], axis=-1)
    return _levels(image.astype(np.float32) + shift)


def kernel_blur(image: Image, kernel: int) -> Image:
    """GB: Gaussian of `kernel` pixels (odd) and sigma kernel / 6."""
    return cv2.GaussianBlur(image, (kernel, kernel), kernel / 6)


def block_average(image: Image, factor: int) -> Image:
    """JPEG of the published code: bilinear down by `factor` and back up; no JPEG encoder takes part."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (max(width // factor, 1), max(height // factor, 1)), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _levels(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
