"""How far a face's quality weakens what detectors say of it: measures from 0 (as good as it gets) to 1 (poor).

They come from what every analysis has: the face's boxes and flags, its number of frames, and the file's header. So the
fused score of one input is the same in one process and through the graph.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from detectors.result import FaceResult

MEASURES = ("small", "blurred", "compressed", "turned", "short")
"""Size of the face, blur, compression of the file, pose and framing, length of the track; in the stacker's order."""

_SIDE = (160.0, 40.0)
"""Longer side of the face's box (brows to chin), pixels. 160 fill the largest compact input; at 40 each pixel is
enlarged three- to fourfold and blending traces are gone."""
_FRAMES = (64.0, 4.0)
"""Frames of the track: from 64 on every clip detector gets whole clips."""
_BITS = {"video": (0.1, 0.01), "image": (1.5, 0.3)}
"""Bits of the file per pixel: H.264 at about CRF 20 and 40, JPEG at about quality 85 and 30. A rough measure: it does
not see an earlier, worse compression."""


def measure(
    face: FaceResult, kind: Literal["image", "video", "landmarks"], pixels: int, size_bytes: int
) -> dict[str, float]:
    """The measures of one face, each in 0..1. `pixels`: width * height * frames of the file, 0 where not known."""
    boxes = face.boxes or [face.box]
    side = float(np.median([max(x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes]))
    flags = set(face.quality)
    turned = 1.0 if flags & {"profile", "cut_off"} else 0.5 if flags & {"rotated", "uncertain"} else 0.0
    known = kind != "landmarks" and pixels > 0
    return {
        "small": _between(side, _SIDE) if side > 0 else 0.0,
        "blurred": float("blurred" in flags),
        "compressed": _between(8 * size_bytes / pixels, _BITS[kind]) if known else 0.0,
        "turned": turned,
        "short": _between(float(face.frames), _FRAMES) if kind != "image" else 1.0,
    }


def _between(value: float, ends: tuple[float, float]) -> float:
    """0 at the good end and beyond, 1 at the poor end and beyond, even in the logarithm between."""
    good, poor = ends
    share = math.log(good / max(value, 1e-9)) / math.log(good / poor)
    return round(min(max(share, 0.0), 1.0), 4)


def vector(measures: Mapping[str, float]) -> list[float]:
    """In the order of MEASURES; a measure that is not given counts as good."""
    return [float(measures.get(name, 0.0)) for name in MEASURES]
