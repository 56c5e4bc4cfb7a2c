"""The stages in this process: no cluster, no server; what `unmask scan`, notebooks and tests use."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from detectors.pipeline import Progress, analyse
from detectors.result import Analysis
from detectors.scoring import DetectorInfo
from detectors.steps import (
    ChunkMeta,
    DetectStep,
    LandmarkedChunk,
    LandmarkStep,
    TrackingStep,
    TrackingSummary,
    TrackPrediction,
    describe,
    encode_crop,
)
from detectors.store import LoadedDetector, load_available
from detectors.turns import Turns
from preprocessing.inputs import FaceInput
from preprocessing.media import read_credentials
from preprocessing.settings import Backend, MediaLimits, Settings, TrackingSettings
from preprocessing.types import CropChunk, MediaInfo, Track

DETECTOR_THREAD = "detector-"
"""Prefix of the names of the threads that detectors run in."""


def describe_detector(loaded: LoadedDetector) -> DetectorInfo:
    """A loaded detector without its network."""
    detector, card = loaded.detector, loaded.card
    return DetectorInfo(
        detector.name, card.profile, detector.meta, detector.input, loaded.label, card.calibration, card.sha256
    )


class LocalStages:
    """Implements detectors.pipeline.Stages with threads; references are the objects themselves.

    As many detectors work side by side as there are cores, and share these; torch's number of threads is a setting of
    the whole process. Another backend is for logits and embeddings; raises detectors.onnx_export.NoPackage without it.
    """

    def __init__(
        self,
        loaded: Mapping[str, LoadedDetector] | None = None,
        landmark_model: Path | None = None,
        backend: Backend = "torch",
    ) -> None:
        detectors = dict(load_available() if loaded is None else loaded)
        cores = os.cpu_count() or 1
        torch.set_num_threads(max(cores // max(len(detectors), 1), 1))
        if backend != "torch":
            from detectors.backends import on_backend

            detectors = on_backend(detectors, backend)
        self._side_by_side = cores
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()
        self._infos = {name: describe_detector(one) for name, one in detectors.items()}
        self._detect = DetectStep(detectors)
        self._landmarks = LandmarkStep(landmark_model)
        self._tracking = TrackingStep()
        self._free: list[ThreadPoolExecutor] = []
        self.extractor = self._landmarks.extractor

    def infos(self) -> Mapping[str, DetectorInfo]:
        return self._infos

    async def track(
        self, path: Path, limits: MediaLimits, settings: TrackingSettings
    ) -> AsyncGenerator[MediaInfo | tuple[ChunkMeta, CropChunk] | TrackingSummary, None]:
        messages = self._tracking(path, limits, settings)
        # One thread: when the analysis is cancelled, closing waits there for the frame that is being decoded.
        thread = self._free.pop() if self._free else ThreadPoolExecutor(1, "tracking")
        loop = asyncio.get_running_loop()
        try:
            while (item := await loop.run_in_executor(thread, next, messages, None)) is not None:
                yield (describe(item), item) if isinstance(item, CropChunk) else item
        finally:
            thread.submit(messages.close)  # type: ignore[attr-defined]
            self._free.append(thread)

    async def landmarks(
        self, reference: Any, wanted: Mapping[int, Sequence[FaceInput]], frame_size: tuple[int, int]
    ) -> LandmarkedChunk:
        return await asyncio.to_thread(self._landmarks, reference, wanted, frame_size)

    async def calibrate(
        self, path: Path, limits: MediaLimits, tracks: Mapping[int, Track]
    ) -> dict[int, NDArray[np.float32]]:
        stop = threading.Event()
        try:
            return await asyncio.to_thread(self._landmarks.calibrate, path, limits, tracks, stop)
        finally:
            stop.set()

    async def detect(self, name: str, samples: Sequence[Any] | NDArray[Any], maps: int) -> TrackPrediction:
        loop = asyncio.get_running_loop()
        async with self._turns.setdefault(loop, Turns(self._side_by_side)).turn():
            return await self._detect_in_thread(loop, name, samples, maps)

    async def _detect_in_thread(
        self, loop: asyncio.AbstractEventLoop, name: str, samples: Sequence[Any] | NDArray[Any], maps: int
    ) -> TrackPrediction:
        answer: asyncio.Future[TrackPrediction] = loop.create_future()

        def settle(found: TrackPrediction | BaseException) -> None:
            if answer.done():  # the deadline has passed
                return
            if isinstance(found, BaseException):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def work() -> None:
            try:
                found: TrackPrediction | BaseException = self._detect(name, samples, maps)
            except Exception as error:
                found = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, found)

        # A thread of its own, not the loop's pool: a detector that hangs must not keep the program from ending.
        threading.Thread(target=work, name=f"{DETECTOR_THREAD}{name}", daemon=True).start()
        return await answer

    async def credentials(self, path: Path) -> dict[str, str]:
        return await asyncio.to_thread(read_credentials, path)

    async def jpeg(self, reference: Any) -> bytes:
        return encode_crop(reference)


def analyse_file(
    path: Path,
    stages: LocalStages,
    settings: Settings | None = None,
    *,
    name: str | None = None,
    progress: Progress = lambda stage, share: None,
) -> Analysis:
    """`analyse` for callers without an event loop. Raises MediaError."""
    return asyncio.run(analyse(path, stages, settings, name=name, progress=progress))
