"""Input kinds: what a detector eats, declared once; preprocessing makes each distinct input once and shares it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class FaceInput:
    """A square face crop of `size` pixels, RGB.

    The square is centred on the landmarks' bounding box; its side is `margin` times the longer side of that box, so it
    does not depend on which face detector found the face. `align="eyes"` rotates it so that the eyes are level.
    Pixels reach the network as (value / 255 - mean) / std.
    """

    size: int
    margin: float = 1.6
    align: Literal["none", "eyes"] = "none"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class ClipInput:
    """`length` face crops of one track, `stride` frames apart."""

    length: int
    stride: int
    face: FaceInput


@dataclass(frozen=True)
class LandmarkInput:
    """Runs of `length` frames of 68 landmarks of one track, every frame, in LRNet's normalised space.

    Landmark scores measure jitter: the extractor, the spacing of box detections and the calibration must be those of
    the weights' training data, else the score is out of its domain.
    """

    length: int
    calibrated: bool = True
    extractor: str = "dlib68"
    box_every: int = 1
    fps: float | None = None


InputSpec = FaceInput | ClipInput | LandmarkInput
