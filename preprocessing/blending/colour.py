"""Colour, sharpness, resolution and compression changes (specs/blending.md, 3.4 and 3.6).

Each change is drawn first and applied after, so that a real picture and its fake can get the very same one. The
primitives are our own because the reference library's statistics change from version to version (section 5).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.types import Image

REGISTER = 64
"""Pixels: a multiple of what any processor's registers hold."""


def rgb_shift(rng: np.random.Generator, limit: float = 20) -> NDArray[np.float32]:
    """One offset a channel, (3,) in levels."""
    return rng.uniform(-limit, limit, 3).astype(np.float32)


def apply_rgb_shift(image: Image, offsets: NDArray[np.float32]) -> Image:
    """Clipped, then truncated."""
    levels = np.arange(256, dtype=np.float32)[:, None] + offsets
    return cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8)[:, None, :].reshape(1, 256, 3))


def hsv_drop(rng: np.random.Generator) -> NDArray[np.bool_]:
    """(3,): which of hue, saturation and value drop by one, each with odds 1/2.

    The published limits of -0.3..0.3 on 8-bit pictures do exactly this (measured, section 3.4).
    """
    return rng.random(3) < 0.5


def apply_hsv_drop(image: Image, drop: NDArray[np.bool_]) -> Image:
    """A round trip through 8-bit HSV; hue wraps 0 -> 179, saturation and value stop at 0."""
    # OpenCV rounds the last pixels of a row, those that fill no register, otherwise: as one long padded row, a pixel's
    # colour does not depend on its place, nor on how a picture was cut.
    count = image.shape[0] * image.shape[1]
    row = np.empty((1, -(-count // REGISTER) * REGISTER, 3), np.uint8)
    row[0, :count], row[0, count:] = image.reshape(-1, 3), 0
    hsv = cv2.cvtColor(row, cv2.COLOR_RGB2HSV)
    if drop.any():
        levels = np.arange(256)
        table = np.repeat(levels[:, None], 3, axis=1)
        if drop[0]:
            table[:180, 0] = (levels[:180] - 1) % 180
        for channel in (1, 2):
            if drop[channel]:
                table[:, channel] = np.maximum(levels - 1, 0)
        hsv = cv2.LUT(hsv, table.astype(np.uint8).reshape(1, 256, 3))
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, :count].reshape(image.shape)


def brightness_contrast(rng: np.random.Generator, limit: float) -> tuple[float, float]:
    """Factor and offset (in levels) of v -> v * factor + offset."""
    return 1 + float(rng.uniform(-limit, limit)), 255 * float(rng.uniform(-limit, limit))


def apply_brightness_contrast(image: Image, change: tuple[float, float]) -> Image:
    """Clipped, then truncated."""
    table = np.clip(np.arange(256, dtype=np.float32) * change[0] + change[1], 0, 255).astype(np.uint8)
    return cv2.LUT(image, table)


def lower_resolution(image: Image, factor: float, nearest: bool = False) -> Image:
    """Shrunk by `factor` (> 1; whole-area average, or nearest as the reference does) and brought back bilinearly."""
    height, width = image.shape[:2]
    size = (max(int(width / factor), 1), max(int(height / factor), 1))
    small = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST if nearest else cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def sharpen(image: Image, alpha: float, lightness: float) -> Image:
    """(1 - alpha) of the picture plus alpha of its 3x3 Laplacian sharpening with centre 8 + lightness."""
    kernel = np.full((3, 3), -alpha, np.float32)
    kernel[1, 1] = (1 - alpha) + alpha * (8 + lightness)
    return cv2.filter2D(image, -1, kernel)


def jpeg(image: Image, quality: int) -> Image:
    """Through a JPEG encoder and back."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError("the JPEG encoder refused a picture")
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


@dataclass(frozen=True)
class SourceChange:
    """SBI's change of one of the two sides (section 3.4): colour, then either a lower resolution or sharpening.

    `shift` None: left out. `factor` 2 or 4 lowers the resolution; 0: sharpened with (alpha, lightness) `sharpness`.
    """

    shift: NDArray[np.float32] | None
    hsv: NDArray[np.bool_]
    tone: tuple[float, float]
    factor: int
    sharpness: tuple[float, float]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> SourceChange:
        """RGB shift with odds 0.3, HSV and tone always, resolution or sharpness with equal odds."""
        shift = rgb_shift(rng) if rng.random() < 0.3 else None
        hsv, tone = hsv_drop(rng), brightness_contrast(rng, 0.1)
        if rng.random() < 0.5:
            return cls(shift, hsv, tone, 2 if rng.random() < 0.5 else 4, (0.0, 0.0))
        return cls(shift, hsv, tone, 0, (float(rng.uniform(0.2, 0.5)), float(rng.uniform(0.5, 1))))

    def colour(self, image: Image) -> Image:
        """The changes that look at one pixel at a time."""
        if self.shift is not None:
            image = apply_rgb_shift(image, self.shift)
        return apply_brightness_contrast(apply_hsv_drop(image, self.hsv), self.tone)

    def __call__(self, image: Image) -> Image:
        """The changed picture, uint8. Colour is changed on the small picture: nearest sampling leaves colours as they
        are, so the order makes no difference."""
        if not self.factor:
            return sharpen(self.colour(image), *self.sharpness)
        height, width = image.shape[:2]
        size = (max(width // self.factor, 1), max(height // self.factor, 1))
        small = self.colour(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST))
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)

    def part(self, image: Image, rows: slice, columns: slice) -> Image:
        """These rows and columns of the changed picture, without changing the rest where it is sharpened."""
        if self.factor:
            return self(image)[rows, columns]
        # Sharpening looks one pixel around.
        top, left = max(rows.start - 1, 0), max(columns.start - 1, 0)
        near = self(image[top : rows.stop + 1, left : columns.stop + 1])
        return near[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]


def augment_source(image: Image, rng: np.random.Generator) -> Image:
    """The picture after a SourceChange that is drawn here."""
    return SourceChange.draw(rng)(image)


@dataclass(frozen=True)
class PostAugmentation:
    """SBI's change of the finished pair (section 3.6): the same for the real and the fake. None: left out."""

    shift: NDArray[np.float32] | None
    hsv: NDArray[np.bool_] | None
    tone: tuple[float, float] | None
    quality: int | None

    @classmethod
    def draw(cls, rng: np.random.Generator, quality: tuple[int, int] = (40, 100)) -> PostAugmentation:
        """RGB shift, HSV and tone each with odds 0.3, JPEG with odds 0.5."""
        use = rng.random(4) < (0.3, 0.3, 0.3, 0.5)
        return cls(
            rgb_shift(rng) if use[0] else None,
            hsv_drop(rng) if use[1] else None,
            brightness_contrast(rng, 0.3) if use[2] else None,
            int(rng.integers(quality[0], quality[1] + 1)) if use[3] else None,
        )

    def __call__(self, image: Image) -> Image:
        """The changed picture, uint8."""
        if self.shift is not None:
            image = apply_rgb_shift(image, self.shift)
        if self.hsv is not None:
            image = apply_hsv_drop(image, self.hsv)
        if self.tone is not None:
            image = apply_brightness_contrast(image, self.tone)
        return jpeg(image, self.quality) if self.quality is not None else image


@dataclass(frozen=True)
class Degradation:
    """What a camera, a site and a codec do to a face, at the resolution they leave: the same for real and fake.

    Data sets differ in resolution and compression; drawn for both classes alike, these give neither away.
    `side`: longer side in pixels that the face is brought to (never enlarged); `blur` sigma in pixels; `noise` standard
    deviation in levels with the seed of its field; `qualities`: JPEG passes one after another, low ones for the blocks
    of H.264.
    """

    side: float | None
    blur: float
    noise: float
    noise_seed: int
    qualities: tuple[int, ...]

    @classmethod
    def draw(
        cls, rng: np.random.Generator, side: tuple[float, float] = (64, 256), quality: tuple[int, int] = (30, 100)
    ) -> Degradation:
        """Resize with odds 0.6 (log-uniform), blur 0.25, noise 0.25, one JPEG pass 0.5, two 0.2, none 0.3."""
        use = rng.random(3) < (0.6, 0.25, 0.25)
        passes = int(rng.choice(3, p=(0.3, 0.5, 0.2)))
        return cls(
            float(np.exp(rng.uniform(*np.log(side)))) if use[0] else None,
            float(rng.uniform(0.3, 1.2)) if use[1] else 0.0,
            float(rng.uniform(1, 6)) if use[2] else 0.0,
            int(rng.integers(2**32)),
            tuple(int(q) for q in rng.integers(quality[0], quality[1] + 1, passes)),
        )

    def __call__(self, image: Image, face_side: float) -> tuple[Image, float]:
        """The degraded picture and the factor its coordinates were scaled by; `face_side` is the face's in pixels."""
        factor = 1.0
        if self.side is not None and self.side < face_side:
            factor = self.side / face_side
            image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        if self.blur:
            image = cv2.GaussianBlur(image, (0, 0), self.blur)
        if self.noise:
            # Grain is the same in the three channels of most cameras' output, after their own denoising.
            field = np.random.default_rng(self.noise_seed).standard_normal(image.shape[:2], np.float32) * self.noise
            image = np.clip(np.rint(image + field[..., None]), 0, 255).astype(np.uint8)
        for quality in self.qualities:
            image = jpeg(image, quality)
        return image, factor
