"""A detector's heatmap laid over the face crop that it looked at, from and to the files of an analysis."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from detectors import overlay as drawing
from preprocessing.types import Image as Picture


def overlay(crop: bytes, heatmap: bytes, opacity: float = 0.6) -> Picture:
    """The crop (JPEG) under its heatmap (8-bit grey PNG), (H, W, 3) RGB, at the crop's size."""
    face = np.asarray(Image.open(io.BytesIO(crop)).convert("RGB"))
    heat = np.asarray(Image.open(io.BytesIO(heatmap)).convert("L")) / 255
    return drawing.overlay(face, heat, opacity)


def overlay_jpeg(crop: bytes, heatmap: bytes, opacity: float = 0.6) -> bytes:
    """`overlay` as a JPEG."""
    out = io.BytesIO()
    Image.fromarray(overlay(crop, heatmap, opacity)).save(out, "JPEG", quality=90)
    return out.getvalue()
