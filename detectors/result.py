"""The one result of an analysis: the same object on the command line, over the API and on the pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["real", "fake", "inconclusive", "no_face"]
Unit = float
"""A probability, 0 real to 1 fake."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Media(_Model):
    """The input as decoded. `frames_analysed` counts the frames that were looked at for faces."""

    name: str
    sha256: str
    kind: Literal["image", "video", "landmarks"]
    container: str
    codec: str
    width: int
    height: int
    fps: float | None
    duration_s: float | None
    frames_analysed: int
    metadata: dict[str, str] = Field({}, description="what the file says of its making; anyone can write that")


class Notice(_Model):
    """Something a reader must know before trusting the verdict. `code` is stable, `message` is for people."""

    code: str
    message: str


class FrameScore(_Model):
    """A detector's calibrated score at one moment; for a clip, its middle."""

    time: float
    frame: int
    score: Unit


class Heatmap(_Model):
    """Where a detector saw manipulation in one face crop: two artifacts, `crop` (JPEG) and `map` (8-bit grey PNG)."""

    time: float
    frame: int
    score: Unit
    crop: str
    map: str


class DetectorScore(_Model):
    """What one detector says of one face. Without a score, `status` and `reason` say why."""

    status: Literal["ok", "failed", "timeout", "not_applicable", "out_of_domain"]
    reason: str = ""
    score: Unit | None = None
    logit: float | None = Field(None, description="of the track, before calibration")
    frame_scores: list[FrameScore] = []
    heatmaps: list[Heatmap] = []
    embedding: list[float] | None = None
    weights: str = Field("", description="name and first 12 digits of the sha256 of the weights")
    seconds: float = 0.0


class FaceResult(_Model):
    """One person's track. `boxes` (x1, y1, x2, y2) in pixels of the frame belong to `box_times`."""

    track: int
    times: tuple[float, float]
    frames: int
    box: tuple[float, float, float, float]
    boxes: list[tuple[float, float, float, float]]
    box_times: list[float]
    thumbnail: str | None = None
    landmarks: str | None = Field(None, description="artifact: the track's landmarks, see detectors.landmark_track")
    quality: list[str] = Field([], description="flags that at least half of the looked-at frames carry")
    quality_measures: dict[str, float] = Field(
        {}, description="small, blurred, compressed, turned, short: 0 good to 1 poor; they weaken the detectors' say"
    )
    detectors: dict[str, DetectorScore] = {}
    fused: Unit | None = None
    interval: tuple[Unit, Unit] | None = None
    contributions: dict[str, float] = Field({}, description="each detector's share of the fused logit, signed")


class AnalysisResult(_Model):
    """The verdict on one media file with everything that led to it."""

    schema_: Literal["unmask.result/1"] = Field("unmask.result/1", alias="schema")
    media: Media
    verdict: Verdict
    score: Unit | None
    interval: tuple[Unit, Unit] | None
    threshold: Unit
    reasons: list[str] = Field(description="plain sentences that carry the verdict, most important first")
    faces: list[FaceResult]
    provenance: dict[str, str] = Field(
        {"status": "not checked"}, description="C2PA content credentials; they do not enter the score"
    )
    warnings: list[Notice] = []
    incomplete: bool = Field(False, description="part of the input could not be analysed; warnings say which")
    versions: dict[str, str] = {}
    timings: dict[str, float] = Field({}, description="seconds by stage")

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)


@dataclass
class Analysis:
    """The result and the files that it names: `artifacts[name]` is a JPEG or PNG."""

    result: AnalysisResult
    artifacts: dict[str, bytes] = field(default_factory=dict)
