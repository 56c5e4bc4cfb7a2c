"""The value objects that travel through the program: frames, faces, chunks of crops, tracks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""(H, W, 3) RGB."""
Points = NDArray[np.float32]
"""(68, 2) or (81, 2), x and y in pixels of the frame; 68 in iBUG order, then 13 points of the forehead."""

Quality = Literal["small", "blurred", "rotated", "profile", "cut_off", "uncertain"]


@dataclass(frozen=True)
class MediaInfo:
    """What the header says. `frames`, `fps` and `duration_s` are the container's claim, None where it makes none;
    `metadata` what the file says of its making (preprocessing.media.metadata.FACTS)."""

    kind: Literal["image", "video"]
    container: str
    codec: str
    width: int
    height: int
    size_bytes: int
    sha256: str
    fps: float | None = None
    duration_s: float | None = None
    frames: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Frame:
    """One decoded picture, upright, with its presentation time in seconds from the first frame."""

    index: int
    time: float
    image: Image


@dataclass(frozen=True)
class Detection:
    """One face found in a frame: `box` = (x1, y1, x2, y2) float32 in pixels of the frame, in the convention of dlib's
    HOG detector (brows to chin), so that landmarks do not depend on who found the face. `score`: 0 is just accepted."""

    box: NDArray[np.float32]
    score: float


@dataclass(frozen=True)
class FaceCrop:
    """A face of one track in one frame, cut with a margin from the frame at its own resolution.

    `offset` is the frame position (x, y) of the crop's first pixel, so frame = crop + offset. `detected` is False
    where the box was carried between two detections.
    """

    track: int
    frame: int
    time: float
    box: NDArray[np.float32]
    score: float
    detected: bool
    offset: tuple[int, int]
    image: Image


@dataclass(frozen=True)
class CropChunk:
    """The faces of at most 64 consecutive frames, in frame order, then track order. `frames` counts those without a
    face too."""

    first_frame: int
    frames: int
    faces: list[FaceCrop]


@dataclass
class Track:
    """One person's faces through consecutive frames; the arrays have one row a frame of the track.

    `landmarks` (N, 68, 2) float32, `boxes` (N, 4) float32, `frames` (N,) int64, `times` (N,) float64 seconds.
    `quality` counts how many rows carry each flag.
    """

    id: int
    frames: NDArray[np.int64]
    times: NDArray[np.float64]
    boxes: NDArray[np.float32]
    landmarks: Points
    quality: dict[Quality, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frames)
