"""Settings of decoding, detection and tracking, read from YAML or arguments; an unknown key names the near miss."""

from __future__ import annotations

import difflib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Backend = Literal["torch", "onnx"]
"""What runs a network; detectors.backends has those that are not PyTorch."""


class Strict(BaseModel):
    """A frozen pydantic model that rejects unknown keys and names the closest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _name_near_miss(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    near = difflib.get_close_matches(str(key), list(cls.model_fields), n=1)
                    known = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(cls.model_fields)}"
                    raise ValueError(f"unknown key {key!r}: {known}")
        return data


class MediaLimits(Strict):
    """What a file may cost. Checked against the header first, then enforced while decoding."""

    max_bytes: int = Field(2 * 1024**3, gt=0)
    max_image_pixels: int = Field(100_000_000, gt=0)
    max_frame_pixels: int = Field(3840 * 2160, gt=0)
    max_duration_s: float = Field(3600, gt=0)
    max_fps: float = Field(240, gt=0)
    max_streams: int = Field(16, gt=0)
    max_memory_bytes: int = Field(2 * 1024**3, gt=0, description="address space of the decoding process")
    max_cpu_s: float = Field(1800, gt=0, description="CPU time of the decoding process")
    max_stall_s: float = Field(30, gt=0, description="longest wall time without a new frame")


class TrackingSettings(Strict):
    """How faces are found and followed."""

    detector: Literal["auto", "hog", "cnn", "mtcnn"] = "auto"
    box_every: int = Field(4, ge=1, le=30, description="frames from one box detection to the next")
    max_faces: int = Field(50, ge=1, description="faces analysed in one frame, largest first")
    max_tracks: int = Field(64, ge=1, description="tracks followed in one video, first come")
    crop_margin: float = Field(2.3, ge=1.3, description="side of a margin crop over the longer side of the face box")
    samples: int = Field(32, ge=2, le=256, description="face crops a track that reach the frame detectors, at most")


class Settings(Strict):
    """Everything an analysis depends on, apart from the weights."""

    limits: MediaLimits = MediaLimits()
    tracking: TrackingSettings = TrackingSettings()
    detectors: tuple[str, ...] | None = Field(None, description="names of the registry; None: all that have weights")
    tracking_deadline_s: float = Field(3600, gt=0, description="of a video, what is not tracked by then is left out")
    calibration_deadline_s: float = Field(1800, gt=0, description="later, detectors of landmarks give no answer")
    detector_deadline_s: float = Field(300, gt=0, description="per detector and media file")
    heatmaps: int = Field(4, ge=0, le=64, description="face crops a track that get a heatmap, most suspicious first")
