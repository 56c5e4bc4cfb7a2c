"""Faces that `unmask synth` works on: crops of pictures and frames, partners in one framing, donors that fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.blending.clips import FaceClip
from preprocessing.blending.swap import align
from preprocessing.blending.swap_video import TrackedFace
from preprocessing.crops import face_square
from preprocessing.types import Image, Points

FRAMES_OF_A_VIDEO = 8
"""Frames of a video that become pictures, evenly spaced over what is read of it."""
MARGIN = 2.0
"""Side of a crop over the face's: what the generators' shifts and blurs relate to."""
SIDES = (128, 512)
"""Pixels of a crop's side, at least and at most; in between it is the face's own resolution."""


@dataclass(frozen=True)
class Face:
    """A face on a crop (H, W, 3), square unless the picture ends, with 81 landmarks; `frame` is None for a picture."""

    path: Path
    sha256: str
    frame: int | None
    image: Image
    points: Points

    def origin(self) -> dict[str, Any]:
        """Where it comes from, as the index says it."""
        return {"source": str(self.path), "sha256": self.sha256, "frame": self.frame}

    @property
    def name(self) -> str:
        """For people."""
        return str(self.path) if self.frame is None else f"{self.path} frame {self.frame}"

    def framed(self) -> Points:
        """The landmarks in a square of side 1 around the face: the same framing for all faces."""
        x, y, side = face_square(self.points, MARGIN)
        return ((self.points - (x, y)) / side).astype(np.float32)

    def in_framing_of(self, other: Face) -> tuple[Image, Points]:
        """The picture and landmarks with the face where and as large as `other`'s, on a picture of `other`'s size."""
        x, y, side = face_square(self.points, MARGIN)
        there_x, there_y, there = face_square(other.points, MARGIN)
        scale = there / side
        matrix = np.array([[scale, 0, there_x - scale * x], [0, scale, there_y - scale * y]])
        image = self.image
        if scale < 0.6:
            # Averaged first, else the detail of the larger picture would alias.
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            matrix[:, 2] += (1 - scale) / 2
            matrix[0, 0] = matrix[1, 1] = 1.0
        size = (other.image.shape[1], other.image.shape[0])
        moved = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return moved, (scale * (self.points - (x, y)) + (there_x, there_y)).astype(np.float32)


def still_faces(path: Path, tracked: TrackedFace) -> Iterator[Face]:
    """The face of a picture, or of FRAMES_OF_A_VIDEO frames; crops end where the picture ends."""
    count = len(tracked.clip)
    video = tracked.info.kind == "video"
    for index in np.linspace(0, count - 1, min(FRAMES_OF_A_VIDEO, count)).round().astype(int).tolist():
        image, points = tracked.clip.frames[index], tracked.clip.landmarks[index]
        x, y, side = face_square(points, MARGIN)
        left, top = max(round(x - side / 2), 0), max(round(y - side / 2), 0)
        crop = np.ascontiguousarray(image[top : round(y + side / 2) + 1, left : round(x + side / 2) + 1])
        scale = float(np.clip(side, *SIDES)) / side
        if scale != 1:
            method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            crop = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=method)
        moved = ((points - (left, top) + 0.5) * scale - 0.5).astype(np.float32)
        yield Face(path, tracked.info.sha256, int(tracked.frames[index]) if video else None, crop, moved)


def thinned(face: TrackedFace) -> TrackedFace:
    """At most FRAMES_OF_A_VIDEO frames of it, evenly spaced: a donor's, of whom many are held at once."""
    count = len(face.clip)
    kept = np.linspace(0, count - 1, min(FRAMES_OF_A_VIDEO, count)).round().astype(int)
    clip = FaceClip([face.clip.frames[index] for index in kept.tolist()], face.clip.landmarks[kept])
    return replace(face, clip=clip, frames=face.frames[kept], offsets=face.offsets[kept], boxes=face.boxes[kept])


def shape_gap(one: TrackedFace, other: TrackedFace) -> float:
    """How far two faces' landmarks lie apart when one is laid on the other, a share of the face."""
    a, b = (np.asarray(face.clip.landmarks[:, :68].mean(axis=0), np.float64) for face in (one, other))
    return float(np.linalg.norm(align(a, b) - b, axis=1).mean() / np.ptp(b, axis=0).max())


def write_png(path: Path, picture: NDArray[Any]) -> None:
    """RGB of uint8 (H, W, 3), or weights (H, W) in 0..1 as 8-bit grey."""
    levels = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else np.rint(picture * 255).astype(np.uint8)
    done, data = cv2.imencode(".png", levels)
    if not done:
        raise RuntimeError("the PNG encoder refused a picture")
    path.write_bytes(bytes(data))
