"""A detector's heatmap laid over the face crop that it looked at."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

STOPS = np.array([[88, 24, 122], [191, 39, 96], [240, 96, 54], [252, 180, 60], [252, 246, 170]], np.float64)
"""Violet over red to pale yellow: brightness rises all the way, so it reads without colour vision too."""


def colour(heat: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H, W) in 0..1 to RGB (H, W, 3) in 0..255."""
    at = np.linspace(0, 1, len(STOPS))
    return np.stack([np.interp(heat, at, STOPS[:, channel]) for channel in range(3)], axis=-1)


def overlay(crop: bytes, heatmap: bytes, opacity: float = 0.6) -> NDArray[np.uint8]:
    """The crop (JPEG) under its heatmap (8-bit grey PNG), (H, W, 3) RGB, at the crop's size.

    The map covers by `opacity` (0..1) times its own value: where the detector saw nothing, the face stays as it is.
    """
    face = Image.open(io.BytesIO(crop)).convert("RGB")
    # Cubic interpolation would overshoot the 0..1 that the map means.
    heat = np.asarray(Image.open(io.BytesIO(heatmap)).convert("L").resize(face.size, Image.Resampling.BILINEAR)) / 255
    cover = (opacity * heat)[..., None]
    blended = np.asarray(face, np.float64) * (1 - cover) + colour(heat) * cover
    return np.round(blended).astype(np.uint8)


def overlay_jpeg(crop: bytes, heatmap: bytes, opacity: float = 0.6) -> bytes:
    """`overlay` as a JPEG."""
    out = io.BytesIO()
    Image.fromarray(overlay(crop, heatmap, opacity)).save(out, "JPEG", quality=90)
    return out.getvalue()
