"""One media file to one result. The orchestration is written once; in-process or on Ray only the stages differ."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from detectors.result import Analysis
from detectors.sampling import Places, TrackCrops
from detectors.scoring import DetectorInfo, score_faces
from detectors.steps import DISPLAY_INPUT, ChunkMeta, LandmarkedChunk, TrackingSummary, TrackPrediction
from detectors.verdict import conclude
from preprocessing.errors import MediaTooLarge
from preprocessing.inputs import ClipInput, FaceInput, InputSpec, LandmarkInput
from preprocessing.settings import MediaLimits, Settings, TrackingSettings
from preprocessing.types import MediaInfo, Quality, Track

Known = TypeVar("Known")
Progress = Callable[[str, float], None]
"""Called with a stage's name and its share done, 0..1; "detectors/NAME" is one detector's share of the faces."""

MAX_SAMPLES = 512
"""Faces whose crops an analysis holds at once, shared by its tracks: many short tracks get fewer each, at least 8."""
CHUNKS_IN_FLIGHT = 2
"""Chunks that wait for landmarks while the next is decoded: bounds memory, keeps both stages busy."""


class Stages(Protocol):
    """Where the steps run. `reference` values are opaque here: an array in-process, an object reference on Ray."""

    extractor: str

    def infos(self) -> Mapping[str, DetectorInfo]:
        """The detectors that have weights, and what they eat."""

    def track(
        self, path: Path, limits: MediaLimits, settings: TrackingSettings
    ) -> AsyncGenerator[MediaInfo | tuple[ChunkMeta, Any] | TrackingSummary, None]: ...

    async def landmarks(
        self, reference: Any, wanted: Mapping[int, Sequence[FaceInput]], frame_size: tuple[int, int]
    ) -> LandmarkedChunk: ...

    async def calibrate(
        self, path: Path, limits: MediaLimits, tracks: Mapping[int, Track]
    ) -> dict[int, NDArray[np.float32]]: ...

    async def detect(self, name: str, samples: Sequence[Any] | NDArray[Any], maps: int) -> TrackPrediction: ...

    async def jpeg(self, reference: Any) -> bytes: ...

    async def credentials(self, path: Path) -> dict[str, str]:
        """preprocessing.media.read_credentials."""


@dataclass
class Tracked:
    """What the tracking and landmark stages leave behind."""

    info: MediaInfo
    summary: TrackingSummary
    tracks: dict[int, Track]
    crops: dict[int, TrackCrops]


async def analyse(
    path: Path,
    stages: Stages,
    settings: Settings | None = None,
    *,
    name: str | None = None,
    progress: Progress = lambda stage, share: None,
) -> Analysis:
    """Track, find landmarks, let every detector score every face, fuse, conclude.

    Raises MediaError where the file cannot be analysed. A detector that fails or overruns its deadline is named in
    the result and takes no part in it; of a video that is not tracked in time, the result speaks of what was.
    """
    settings = settings or Settings()
    timings: dict[str, float] = {}
    infos = choose(stages.infos(), settings.detectors)
    specs: list[InputSpec] = list(dict.fromkeys([DISPLAY_INPUT, *(info.input for info in infos.values())]))
    start = time.perf_counter()
    opened = asyncio.Event()
    credentials = asyncio.ensure_future(_credentials(path, stages, opened))
    try:
        tracked = await track_faces(path, stages, settings, specs, progress, opened)
        timings["tracking"] = time.perf_counter() - start
        start = time.perf_counter()
        progress("detectors", 0.0)
        faces, artifacts = await score_faces(path, stages, settings, infos, tracked, timings, progress)
        timings["detectors"] = time.perf_counter() - start - timings.get("calibration", 0.0)
        progress("fusion", 0.0)
        provenance = await credentials
    finally:
        credentials.cancel()
    result = conclude(name or path.name, tracked.info, tracked.summary, faces, infos, timings, provenance=provenance)
    progress("done", 1.0)
    return Analysis(result, artifacts)


async def _credentials(path: Path, stages: Stages, opened: asyncio.Event) -> dict[str, str]:
    """Read while faces are looked for: at the beginning they would hold up the decoder's start."""
    await opened.wait()
    return await stages.credentials(path)


def choose(infos: Mapping[str, Known], wanted: Sequence[str] | None) -> dict[str, Known]:
    """The detectors to run; a name that is not there is a ValueError that lists those that are."""
    if wanted is None:
        return dict(infos)
    for asked in wanted:
        if asked not in infos:
            there = ", ".join(sorted(infos)) or "none"
            raise ValueError(
                f"detector {asked!r} is not available here (no such method, or no weights); there are: {there}"
            )
    return {asked: infos[asked] for asked in wanted}


async def track_faces(
    path: Path,
    stages: Stages,
    settings: Settings,
    specs: Sequence[InputSpec],
    progress: Progress,
    opened: asyncio.Event | None = None,
) -> Tracked:
    """One pass over the media: tracks with landmarks in every frame, and an even sample of each track's crops.

    `opened` is set when the media is open.
    """
    faces = [spec for spec in specs if isinstance(spec, FaceInput)]
    clips = [spec for spec in specs if isinstance(spec, ClipInput)]
    display = settings.heatmaps > 0 and any(isinstance(spec, LandmarkInput) for spec in specs)
    info: MediaInfo | None = None
    summary: TrackingSummary | None = None
    crops: dict[int, TrackCrops] = {}
    rows: dict[int, list[tuple[Any, Any]]] = defaultdict(list)
    flags: dict[int, dict[Quality, int]] = defaultdict(lambda: defaultdict(int))
    waiting: list[tuple[ChunkMeta, dict[int, Places], asyncio.Task[LandmarkedChunk]]] = []

    frames = 0

    async def collect() -> None:
        nonlocal frames
        meta, kept, task = waiting[0]
        found = await task
        del waiting[0]
        frames = meta.first_frame + meta.frames
        for index, face in enumerate(meta.faces):
            rows[face.track].append((face, found.landmarks[index]))
            for flag in found.quality[index]:
                flags[face.track][flag] += 1
            if index in kept:
                crops[face.track].fill(kept[index], found.samples[index])

    try:
        async with (
            asyncio.timeout(settings.tracking_deadline_s) as limit,
            contextlib.aclosing(stages.track(path, settings.limits, settings.tracking)) as messages,
        ):
            async for item in messages:
                if isinstance(item, MediaInfo):
                    info = item
                    if opened is not None:
                        opened.set()
                    progress("tracking", 0.0)
                elif isinstance(item, TrackingSummary):
                    summary = item
                else:
                    assert info is not None
                    meta, reference = item
                    kept, wanted = _offer(meta, crops, lambda: TrackCrops(faces, clips, display), settings)
                    size = (info.width, info.height)
                    task = asyncio.ensure_future(stages.landmarks(reference, wanted, size))
                    waiting.append((meta, kept, task))
                    del item, reference
                    if len(waiting) >= CHUNKS_IN_FLIGHT:
                        await collect()
                    if info.frames:
                        progress("tracking", min((meta.first_frame + meta.frames) / info.frames, 0.99))
            while waiting:
                await collect()
    except TimeoutError:
        if not limit.expired():
            raise
        if not frames:
            late = f"no frame was analysed within {settings.tracking_deadline_s:g} s"
            raise MediaTooLarge(late, "raise tracking_deadline_s") from None
        told = f"only the first {frames} frames were analysed within {settings.tracking_deadline_s:g} s"
        summary = TrackingSummary(frames, (told,), True)
    finally:
        for _, _, task in waiting:
            task.cancel()
    assert info is not None and summary is not None
    progress("tracking", 1.0)
    return Tracked(info, summary, {t: _track(t, rows[t], flags[t]) for t in sorted(rows)}, crops)


def _offer(
    meta: ChunkMeta, crops: dict[int, TrackCrops], new: Callable[[], TrackCrops], settings: Settings
) -> tuple[dict[int, Places], dict[int, list[FaceInput]]]:
    """Which faces of a chunk are kept, and the crops to make of each; `crops` gets the tracks that begin in it."""
    kept: dict[int, Places] = {}
    wanted: dict[int, list[FaceInput]] = {}
    for index, face in enumerate(meta.faces):
        if face.track not in crops:
            crops[face.track] = new()
            share = min(settings.tracking.samples, max(MAX_SAMPLES // len(crops), 8))
            for one in crops.values():
                one.shrink(share)
        if (places := crops[face.track].offer(face)) is not None:
            kept[index] = places
            wanted[index] = crops[face.track].wanted(places)
    return kept, wanted


def _track(number: int, rows: list[tuple[Any, Any]], flags: dict[Quality, int]) -> Track:
    return Track(
        number,
        np.array([face.frame for face, _ in rows], np.int64),
        np.array([face.time for face, _ in rows], np.float64),
        np.array([face.box for face, _ in rows], np.float32),
        np.stack([points for _, points in rows]).astype(np.float32),
        dict(flags),
    )
