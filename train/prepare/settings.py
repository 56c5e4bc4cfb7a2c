"""What a prepared set depends on: its settings and the versions of what made it."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from preprocessing.inputs import FaceInput
from preprocessing.settings import MediaLimits, Strict, TrackingSettings

SCHEMA = "unmask.prepared/1"
"""Changes with every change of the code that changes crops, landmarks or the files' form."""
LIBRARIES = ("av", "dlib-bin", "numpy", "opencv-python-headless")
"""What decodes, finds, marks and cuts: another version may give other pixels and points."""


class PrepareError(Exception):
    """Why preparing cannot start or go on; the message names the way out."""


class PrepareSettings(Strict):
    """How each video becomes samples. One way of choosing frames: `count`, `stride` or `runs`.

    `size`: side of an aligned crop in pixels; of a margin crop the longest side, larger ones are shrunk.
    `margin`: side of the crop over the longer side of the landmarks' box.
    """

    count: int | None = Field(None, ge=1, description="frames of a video, evenly spaced")
    stride: int | None = Field(None, ge=1, description="every n-th frame")
    runs: tuple[int, int] | None = Field(None, description="number and length of runs of consecutive frames")
    crop: Literal["aligned", "margin"] = "margin"
    size: int = Field(320, ge=32, le=2048)
    margin: float = Field(2.0, ge=1.0, le=4.0)
    image: Literal["png", "jpeg"] = "png"
    quality: int = Field(95, ge=1, le=100, description="of JPEG")
    faces: Literal["main", "all"] = "main"
    detector: Literal["auto", "hog", "cnn", "mtcnn"] = "auto"
    box_every: int = Field(4, ge=1, le=30)
    landmark_model: Path | None = Field(None, description="a dlib model of 81 points")
    split: Literal["auto", "own", "people", "none"] = "auto"
    seed: int = 1
    limits: MediaLimits = MediaLimits()

    @model_validator(mode="after")
    def _one_way_of_choosing(self) -> PrepareSettings:
        given = [name for name in ("count", "stride", "runs") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: choose frames in one way")
        if not given:
            object.__setattr__(self, "count", 32)
        if self.runs is not None and (self.runs[0] < 1 or self.runs[1] < 2):
            raise ValueError("runs are at least 1 run of at least 2 frames, written 4x30")
        return self

    def tracking(self) -> TrackingSettings:
        """The tracker's crops hold the stored crop, rotated or not, whatever the landmarks' place in the box."""
        return TrackingSettings(
            detector=self.detector, box_every=self.box_every, crop_margin=max(2.3, 1.5 * self.margin)
        )

    def face(self) -> FaceInput:
        """An aligned crop, as detectors declare theirs."""
        return FaceInput(self.size, self.margin, "eyes")

    def recorded(self) -> dict[str, Any]:
        """As plain values, a landmark model by what it is and not where it lies."""
        values = self.model_dump(mode="json")
        if self.landmark_model is not None:
            values["landmark_model"] = hashlib.sha256(self.landmark_model.read_bytes()).hexdigest()
        return values


def versions() -> dict[str, str]:
    """unmask's own version and those of LIBRARIES."""
    return {"unmask": version("unmask-forensics"), **{name: version(name) for name in LIBRARIES}}
