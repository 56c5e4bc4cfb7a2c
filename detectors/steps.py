"""The analysis steps as plain classes: each holds its models and turns one message into the next.

The in-process pipeline calls them in threads, the Ray Serve graph hosts each in a deployment; the steps know neither.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.calibration import calibrate_tracks
from preprocessing.crops import face_input
from preprocessing.inputs import FaceInput, LandmarkInput
from preprocessing.landmarks import create_landmark_predictor
from preprocessing.media import open_media
from preprocessing.memory import give_back, share_arenas
from preprocessing.quality import quality_flags
from preprocessing.settings import MediaLimits, TrackingSettings
from preprocessing.tracking import FaceTracker
from preprocessing.types import CropChunk, MediaInfo, Points, Quality, Track

if TYPE_CHECKING:  # tracking and landmarks run in processes of their own, which do without torch
    from detectors.predict import Prediction
    from detectors.store import LoadedDetector

DISPLAY_INPUT = FaceInput(size=256, margin=1.8)
"""The crop that people are shown."""
LARGE_PIXELS = 16_000_000
"""Of a still whose memory is worth giving back at once."""


@dataclass(frozen=True)
class FaceMeta:
    """A FaceCrop without its pixels."""

    track: int
    frame: int
    time: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class ChunkMeta:
    """What the orchestrator needs to know of a chunk; the pixels stay behind a reference."""

    first_frame: int
    frames: int
    faces: tuple[FaceMeta, ...]


@dataclass(frozen=True)
class TrackingSummary:
    """The last message of a tracking pass. `incomplete`: faces or frames were left out, as the warnings say."""

    frames: int
    warnings: tuple[str, ...]
    incomplete: bool


@dataclass
class LandmarkedChunk:
    """`landmarks` (n, 68, 2) float32 in frame pixels and `quality`, a set of flags for each face of the chunk;
    `samples[face][spec]`: the uint8 crop (or a reference to it) of each face that was to be kept."""

    landmarks: Points
    quality: list[frozenset[Quality]]
    samples: dict[int, dict[FaceInput, Any]] = field(default_factory=dict)


@dataclass
class TrackPrediction:
    """A detector's answer for one track: `logits` (N,) before calibration, `maps` PNG by sample index, `shown` which
    picture of a clip such a map belongs to (0 where the sample is one picture). A detector of landmarks has `evidence`
    in place of maps, by sample index: what each frame (T,) and each landmark (68,) adds to the logit, float32."""

    logits: NDArray[np.float32]
    embedding: list[float] | None
    maps: dict[int, bytes]
    shown: dict[int, int]
    seconds: float
    evidence: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = field(default_factory=dict)


class TrackingStep:
    """Decode, detect, track: a media file to chunks of margin crops."""

    def __init__(self) -> None:
        share_arenas()

    def __call__(
        self, path: Path, limits: MediaLimits, settings: TrackingSettings
    ) -> Iterator[MediaInfo | CropChunk | TrackingSummary]:
        """First the MediaInfo, then the chunks, last the summary. Raises MediaError."""
        with open_media(path, limits) as media:
            yield media.info
            large = media.info.kind == "video" or media.info.width * media.info.height > LARGE_PIXELS
            if large:  # room for it, from what other files have left
                give_back()
            tracker = FaceTracker(settings)
            yield from tracker.chunks(media, still=media.info.kind == "image")
            warnings = (*media.warnings, *tracker.warnings)
            incomplete = bool(media.warnings) or tracker.faces_dropped > 0
            yield TrackingSummary(tracker.frames_seen, warnings, incomplete)
        if large:
            give_back()


class LandmarkStep:
    """68 landmarks for every face of a chunk, and the detector inputs of those that are kept."""

    def __init__(self, model: Path | None = None) -> None:
        self.predictor = create_landmark_predictor(model)

    @property
    def extractor(self) -> str:
        """Name of the landmark extractor; weights for landmarks are bound to one."""
        return self.predictor.name

    def __call__(
        self, chunk: CropChunk, wanted: Mapping[int, Sequence[FaceInput]], frame_size: tuple[int, int]
    ) -> LandmarkedChunk:
        """`wanted`: which crops of which faces, by their index in chunk.faces. `frame_size`: (width, height)."""
        points, quality, samples = [], [], {}
        for index, face in enumerate(chunk.faces):
            shift = np.array(face.offset, np.float32)
            box = face.box - np.tile(shift, 2)
            found = self.predictor.predict(face.image, box[None])[0] + shift
            points.append(found[:68])
            quality.append(quality_flags(face, found[:68], frame_size))
            if index in wanted:
                samples[index] = {s: face_input(face.image, face.offset, found[:68], s) for s in wanted[index]}
        stacked = np.stack(points).astype(np.float32) if points else np.zeros((0, 68, 2), np.float32)
        return LandmarkedChunk(stacked, quality, samples)

    def calibrate(
        self, path: Path, limits: MediaLimits, tracks: Mapping[int, Track], stop: threading.Event | None = None
    ) -> dict[int, NDArray[np.float32]]:
        """LRNet's calibrated rows (N, 136), one a frame of the track: a second decode that holds two crops a track.

        A frame whose face lies outside the picture has a row of NaN.

        When `stop` is set by another thread, the decode ends at the next frame with a ValueError.
        """
        with open_media(path, limits) as media:
            frames = media if stop is None else itertools.takewhile(lambda _: not stop.is_set(), media)
            calibrated = calibrate_tracks(frames, tracks)
        rows = {}
        for key, found in calibrated.items():
            rows[key] = np.full((len(tracks[key]), 136), np.nan, np.float32)
            rows[key][np.isin(tracks[key].frames, found.frames)] = found.values
        return rows


class DetectStep:
    """One or more loaded detectors; answers for one of them on the samples of one track."""

    def __init__(self, loaded: Mapping[str, LoadedDetector]) -> None:
        self.loaded = dict(loaded)

    def __call__(self, name: str, samples: Sequence[NDArray[Any]] | NDArray[Any], maps: int) -> TrackPrediction:
        """`samples`: N inputs of the detector's declared kind, a clip being an array or a list of its crops; `maps`:
        so many heatmaps, most suspicious first."""
        from detectors.predict import predict

        start = time.perf_counter()
        batch = np.stack([np.stack(one) if isinstance(one, list) else one for one in samples])
        return self.complete(name, batch, predict(self.loaded[name], batch), maps, start)

    def complete(self, name: str, batch: NDArray[Any], found: Prediction, maps: int, start: float) -> TrackPrediction:
        """The answer from scores that are there already; `start` is the perf_counter when work on them began."""
        from detectors.explain import NotExplained, explain

        chosen = np.sort(np.argsort(-found.logits, kind="stable")[:maps])
        pictures: dict[int, bytes] = {}
        shown: dict[int, int] = {}
        evidence: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        if len(chosen) and isinstance(self.loaded[name].detector.input, LandmarkInput):
            from detectors.landmark_evidence import evidence as evidence_of

            moved = evidence_of(self.loaded[name].detector, batch[chosen])
            pairs = zip(moved.moments, moved.landmarks, strict=True)
            evidence = {int(i): pair for i, pair in zip(chosen, pairs, strict=True)}
        elif len(chosen):
            with contextlib.suppress(NotExplained):
                drawn = explain(self.loaded[name], batch[chosen])
                pictures = {int(i): encode_map(m) for i, m in zip(chosen, drawn.maps, strict=True)}
                shown = {int(i): int(frame) for i, frame in zip(chosen, drawn.frames, strict=True)}
        embedding = None if found.embeddings is None else [float(v) for v in found.embeddings.mean(0)]
        return TrackPrediction(found.logits, embedding, pictures, shown, time.perf_counter() - start, evidence)


def encode_map(heatmap: NDArray[np.float32]) -> bytes:
    """(H, W) in 0..1 to an 8-bit grey PNG."""
    done, data = cv2.imencode(".png", np.round(np.clip(heatmap, 0, 1) * 255).astype(np.uint8))
    if not done:
        raise RuntimeError("the PNG encoder refused a heatmap")
    return bytes(data)


def encode_crop(crop: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) RGB to JPEG, quality 90."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not done:
        raise RuntimeError("the JPEG encoder refused a face crop")
    return bytes(data)


def describe(chunk: CropChunk) -> ChunkMeta:
    """The chunk without its pixels."""
    faces = tuple(
        FaceMeta(f.track, f.frame, f.time, (float(f.box[0]), float(f.box[1]), float(f.box[2]), float(f.box[3])))
        for f in chunk.faces
    )
    return ChunkMeta(chunk.first_frame, chunk.frames, faces)
