"""A detector's heatmap laid over the face crop that it looked at; light, so that pages need no network for it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.types import Image

STOPS = np.array([[88, 24, 122], [191, 39, 96], [240, 96, 54], [252, 180, 60], [252, 246, 170]], np.float64)
"""Violet over red to pale yellow: brightness rises all the way, so it reads without colour vision too."""


def colour(heat: NDArray[np.floating]) -> NDArray[np.float64]:
    """(H, W) in 0..1 to RGB (H, W, 3) in 0..255."""
    at = np.linspace(0, 1, len(STOPS))
    return np.stack([np.interp(heat, at, STOPS[:, channel]) for channel in range(3)], axis=-1)


def overlay(crop: Image, heatmap: NDArray[np.floating], opacity: float = 0.6) -> Image:
    """The crop (H, W, 3) under its heatmap (h, w) in 0..1, of any size, from any method; at the crop's size.

    The map covers by `opacity` (0..1) times its own value: where the detector saw nothing, the face stays as it is.
    """
    height, width = crop.shape[:2]
    heat = np.asarray(heatmap, np.float64)
    if heat.shape != (height, width):
        # Cubic interpolation would overshoot the 0..1 that the map means.
        heat = cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR)
    cover = (opacity * heat)[..., None]
    return np.round(crop * (1 - cover) + colour(heat) * cover).astype(np.uint8)
