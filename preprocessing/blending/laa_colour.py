"""How LAA-Net changes the background before it blends another face in (specs/laa_net.md, 4.5, BI).

The pasted face is not changed, so beside its shape and border it differs in colour, noise and compression.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.blending.colour import (
    apply_brightness_contrast,
    apply_rgb_shift,
    brightness_contrast,
    jpeg,
    rgb_shift,
)
from preprocessing.types import Image


@dataclass(frozen=True)
class BackgroundChange:
    """Each change or None where it is left out.

    `jitter`: factors of brightness, contrast and saturation, and a turn of the hue as a share of the circle; `gamma`:
    exponent; `blur`: side of the kernel; `noise`: variance in levels and the seed of the field; `hsv`: levels of 8-bit
    hue, saturation and value.
    """

    jitter: tuple[float, float, float, float] | None
    quality: int | None
    shift: NDArray[np.float32] | None
    gamma: float | None
    blur: int | None
    noise: tuple[float, int] | None
    tone: tuple[float, float] | None
    hsv: tuple[float, float, float] | None

    @classmethod
    def draw(cls, rng: np.random.Generator) -> BackgroundChange:
        """Jitter 0.3, JPEG 0.5, RGB shift 0.3, gamma 0.5; blur or noise 0.5; tone or HSV 0.5."""
        use = rng.random(6) < (0.3, 0.5, 0.3, 0.5, 0.5, 0.5)
        first = rng.random(2) < 0.5
        a, b, c = (float(n) for n in rng.uniform(0.8, 1.2, 3))
        hue, exponent = float(rng.uniform(-0.2, 0.2)), float(rng.integers(80, 121)) / 100
        shift, quality = rgb_shift(rng), int(rng.integers(40, 101))
        blur, noise = int(rng.choice((3, 5, 7))), (float(rng.uniform(10, 50)), int(rng.integers(2**32)))
        tone = brightness_contrast(rng, 0.1)
        h, s, v = (float(n) for n in rng.uniform(-20, 20, 3))
        return cls(
            (a, b, c, hue) if use[0] else None,
            quality if use[1] else None,
            shift if use[2] else None,
            exponent if use[3] else None,
            blur if use[4] and first[0] else None,
            noise if use[4] and not first[0] else None,
            tone if use[5] and first[1] else None,
            (h, s, v) if use[5] and not first[1] else None,
        )

    def __call__(self, image: Image) -> Image:
        """The changed picture, uint8."""
        if self.jitter is not None:
            image = _jitter(image, self.jitter)
        if self.quality is not None:
            image = jpeg(image, self.quality)
        if self.shift is not None:
            image = apply_rgb_shift(image, self.shift)
        if self.gamma is not None:
            levels = (np.arange(256) / 255) ** self.gamma * 255
            image = cv2.LUT(image, levels.astype(np.uint8))
        if self.blur is not None:
            image = cv2.GaussianBlur(image, (self.blur, self.blur), 0)
        if self.noise is not None:
            variance, seed = self.noise
            field = np.random.default_rng(seed).standard_normal(image.shape, np.float32) * np.float32(variance**0.5)
            image = np.clip(image + field, 0, 255).astype(np.uint8)
        if self.tone is not None:
            image = apply_brightness_contrast(image, self.tone)
        return image if self.hsv is None else _shift_hsv(image, *self.hsv)


def _jitter(image: Image, jitter: tuple[float, float, float, float]) -> Image:
    brightness, contrast, saturation, hue = jitter
    work = np.clip(image.astype(np.float32) * np.float32(brightness), 0, 255)
    mean = float(cv2.cvtColor(work, cv2.COLOR_RGB2GRAY).mean())
    work = np.clip(mean + np.float32(contrast) * (work - np.float32(mean)), 0, 255)
    grey = cv2.cvtColor(work, cv2.COLOR_RGB2GRAY)[..., None]
    work = np.clip(grey + np.float32(saturation) * (work - grey), 0, 255)
    return _shift_hsv(work.astype(np.uint8), 180 * hue, 0, 0)


def _shift_hsv(image: Image, hue: float, saturation: float, value: float) -> Image:
    """8-bit levels added; hue goes round 180, the others stop at 0 and 255."""
    levels = np.arange(256)
    table = np.stack([(levels + hue) % 180, levels + saturation, levels + value], axis=1)
    hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), np.clip(table, 0, 255).astype(np.uint8).reshape(1, 256, 3))
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
