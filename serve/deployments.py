"""The deployments of the graph: thin hosts of the analysis steps, of the runner and of the API.

Plain classes, so that Ray finds them by their import path; serve.app makes deployments of them. Imports are inside the
constructors where they are heavy: the gateway, tracking and landmarks run without torch.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from ray import serve as rayserve

from preprocessing.inputs import ClipInput, FaceInput, LandmarkInput
from preprocessing.settings import MediaLimits, TrackingSettings
from preprocessing.types import CropChunk, MediaInfo, Track
from serve.settings import GraphArgs, GroupArgs, LandmarkArgs, TrackingArgs

if TYPE_CHECKING:
    from fastapi import FastAPI

    from detectors.predict import Prediction
    from detectors.scoring import DetectorInfo
    from detectors.steps import ChunkMeta, TrackingSummary, TrackPrediction
    from detectors.store import LoadedDetector
    from serve.stages import Graph, Sample

log = logging.getLogger("unmask.graph")
ANSWER_S = 5.0
"""A part that does not answer its ping for so long is not ready."""


@dataclass
class _Pace:
    """How far a stream of chunks may run ahead of those who consume it."""

    sizes: list[int] = field(default_factory=list)
    consumed: int = 0
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ahead(self) -> int:
        return sum(self.sizes[self.consumed :])


class Tracking:
    """Decode, detect, track. The caller takes the references of the chunks; these stay in this node's object store."""

    def __init__(self, args: TrackingArgs) -> None:
        from detectors.steps import TrackingStep
        from preprocessing.faces import create_face_detector
        from preprocessing.media import keep_spare

        self._step = TrackingStep()
        keep_spare()
        self._free = [ThreadPoolExecutor(1, "tracking")]
        # The first analysis should not pay for imports and model files, some of which are loaded once a thread; nor
        # should the start, so this goes on behind it.
        blank = np.zeros((80, 80, 3), np.uint8)
        self._free[0].submit(lambda: create_face_detector("auto", still=True).detect(blank))
        self._ahead = args.ahead_bytes
        self._paces: dict[str, _Pace] = {}

    async def track(
        self, session: str, path: Path, limits: MediaLimits, settings: TrackingSettings
    ) -> AsyncIterator[MediaInfo | ChunkMeta | CropChunk | TrackingSummary]:
        """TrackingStep's messages; a CropChunk follows its ChunkMeta. Raises MediaError."""
        from detectors.steps import describe

        pace = self._paces[session] = _Pace()
        messages = self._step(path, limits, settings)
        # One thread: when the stream is cancelled, closing waits there for the frame that is being decoded.
        thread = self._free.pop() if self._free else ThreadPoolExecutor(1, "tracking")
        loop = asyncio.get_running_loop()
        try:
            while (item := await loop.run_in_executor(thread, next, messages, None)) is not None:
                if isinstance(item, CropChunk):
                    pace.sizes.append(sum(face.image.nbytes for face in item.faces))
                    yield describe(item)
                yield item
                del item
                while len(pace.sizes) - pace.consumed > 3 and pace.ahead > self._ahead:
                    pace.moved.clear()
                    await pace.moved.wait()
        finally:
            thread.submit(messages.close)  # type: ignore[attr-defined]
            self._free.append(thread)
            del self._paces[session]

    async def consumed(self, session: str, chunks: int) -> None:
        """So many chunks of the session are no longer waiting."""
        if (pace := self._paces.get(session)) is not None:
            pace.consumed = max(pace.consumed, chunks)
            pace.moved.set()

    async def ping(self) -> bool:
        """It answers."""
        return True


class Landmarks:
    """Landmarks and detector inputs of chunks; calibration by a second decode."""

    def __init__(self, args: LandmarkArgs) -> None:
        from detectors.steps import LandmarkStep

        self._step = LandmarkStep(args.model)
        self._thread = ThreadPoolExecutor(1, "landmarks")

    async def extractor(self) -> str:
        """Name of the landmark extractor."""
        return self._step.extractor

    async def landmarks(
        self, reference: list[Any], wanted: dict[int, list[FaceInput]], frame_size: tuple[int, int]
    ) -> AsyncIterator[Any]:
        """LandmarkStep on the chunk behind `reference[0]`: first (landmarks, quality), then for each distinct input of
        `wanted`, in the order of `by_input`, the crops as {face: crop}."""
        from serve.stages import by_input

        chunk = await reference[0]
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._thread, self._step, chunk, wanted, frame_size)
        yield found.landmarks, found.quality
        for spec, faces in by_input(wanted).items():
            yield {face: found.samples[face][spec] for face in faces}

    async def calibrate(
        self, path: Path, limits: MediaLimits, tracks: Mapping[int, Track]
    ) -> dict[int, NDArray[np.float32]]:
        """LandmarkStep.calibrate, whose decoding process ends when the request is cancelled."""
        stop = threading.Event()
        try:
            return await asyncio.to_thread(self._step.calibrate, path, limits, tracks, stop)
        finally:
            stop.set()

    async def ping(self) -> bool:
        """It answers."""
        return True


class DetectorGroup:
    """Hosts detectors, each with a thread of its own, so that one that hangs does not hold up the others.

    Samples of all analyses that wait for the same detector share forward passes of at most `batch_size`; a track's
    samples go in as parts of that size, so a long video cannot keep an image waiting for more than one pass.
    """

    def __init__(self, args: GroupArgs, elsewhere: frozenset[str], modules: Sequence[str]) -> None:
        import torch

        from detectors.steps import DetectStep
        from detectors.store import available, load

        torch.set_num_threads(args.threads)
        for module in modules:
            importlib.import_module(module)
        self._args = args
        self._unusable: dict[str, str] = {}
        wanted = args.detectors if args.detectors is not None else [n for n in available() if n not in elsewhere]
        loaded: dict[str, LoadedDetector] = {}
        for name in wanted:
            try:
                loaded[name] = load(name)
            except Exception as error:  # damaged weights cost their detector, not the group
                log.error("detector %s cannot be used: %s", name, error)
                self._unusable[name] = str(error)
        self._step = DetectStep(loaded)
        self._threads = {name: ThreadPoolExecutor(1, name) for name in loaded}
        self._batched = {name: self._batching(one, self._threads[name]) for name, one in loaded.items()}
        for name, one in loaded.items():
            self._threads[name].submit(self._warm, one)

    def _batching(
        self, loaded: LoadedDetector, thread: ThreadPoolExecutor
    ) -> Callable[[NDArray[Any]], Awaitable[Prediction | Exception]]:
        async def pass_of(parts: list[NDArray[Any]]) -> list[Prediction | Exception]:
            return await asyncio.get_running_loop().run_in_executor(thread, _predict_parts, loaded, parts)

        batched: Callable[[NDArray[Any]], Awaitable[Prediction | Exception]] = rayserve.batch(
            max_batch_size=self._args.batch_size,
            batch_wait_timeout_s=self._args.batch_wait_s,
            batch_size_fn=lambda parts: sum(len(part) for part in parts),
        )(pass_of)
        return batched

    def _warm(self, loaded: LoadedDetector) -> None:
        """One pass over nothing, heatmaps included: the first analysis should not pay for lazy imports and buffers."""
        try:
            self._step(loaded.detector.name, _blank(loaded.detector.input), 1)
        except Exception as error:  # it will be said again, with the analysis that it costs
            log.warning("detector %s failed its warm-up: %s", loaded.detector.name, error)

    async def detect(
        self, name: str, samples: list[Sample] | list[list[Sample]] | NDArray[Any], maps: int
    ) -> TrackPrediction:
        """DetectStep for one track; `samples` are references, lists of them for clips, or the rows themselves."""
        from detectors.predict import clips_of

        start = time.perf_counter()
        batch = samples if isinstance(samples, np.ndarray) else await _fetch(samples)
        size = clips_of(self._args.batch_size, self._step.loaded[name].detector.input)
        parts = [batch[i : i + size] for i in range(0, len(batch), size)]
        found = await asyncio.gather(*(self._batched[name](part) for part in parts))
        for one in found:
            if isinstance(one, Exception):
                raise one
        joined = _join([one for one in found if not isinstance(one, Exception)])
        loop = asyncio.get_running_loop()
        thread = self._threads[name]
        return await loop.run_in_executor(thread, self._step.complete, name, batch, joined, maps, start)

    async def infos(self) -> dict[str, DetectorInfo]:
        """What the pipeline needs to know of the detectors here."""
        from detectors.local import describe_detector

        return {name: describe_detector(one) for name, one in self._step.loaded.items()}

    async def cards(self) -> list[dict[str, Any]]:
        """The detectors here as the API shows them."""
        usable = [detector_card(one) for one in self._step.loaded.values()]
        return usable + [{"name": name, "available": False, "reason": why} for name, why in self._unusable.items()]

    async def ping(self) -> bool:
        """It answers."""
        return True


async def _fetch(samples: Sequence[Sample] | Sequence[list[Sample]]) -> NDArray[np.uint8]:
    """The crops of the samples, (N, H, W, 3), of clips (N, length, H, W, 3); those of one chunk come together."""
    clips = [one if isinstance(one, list) else [one] for one in samples]
    chunks = list(dict.fromkeys(sample.crops for clip in clips for sample in clip))
    crops = dict(zip(chunks, await asyncio.gather(*chunks), strict=True))
    fetched = np.stack([np.stack([crops[sample.crops][sample.face] for sample in clip]) for clip in clips])
    return fetched if isinstance(samples[0], list) else fetched[:, 0]


def _blank(spec: FaceInput | ClipInput | LandmarkInput) -> NDArray[Any]:
    if isinstance(spec, LandmarkInput):
        return np.zeros((1, spec.length, 136), np.float32)
    if isinstance(spec, ClipInput):
        return np.zeros((1, spec.length, spec.face.size, spec.face.size, 3), np.uint8)
    return np.zeros((1, spec.size, spec.size, 3), np.uint8)


def _predict_parts(loaded: LoadedDetector, parts: list[NDArray[Any]]) -> list[Prediction | Exception]:
    """One prediction a part. Where the joint pass fails, each part gets its own, so that one cannot spoil another."""
    from detectors.predict import Prediction, predict

    try:
        joint = np.concatenate(parts)
        whole = predict(loaded, joint, len(joint))
    except Exception as error:
        if len(parts) == 1:
            return [error]
        return [_predict_parts(loaded, [part])[0] for part in parts]
    ends = np.cumsum([len(part) for part in parts])[:-1]
    logits = np.split(whole.logits, ends)
    embeddings = [None] * len(parts) if whole.embeddings is None else np.split(whole.embeddings, ends)
    return [Prediction(a, b) for a, b in zip(logits, embeddings, strict=True)]


def _join(found: list[Prediction]) -> Prediction:
    from detectors.predict import Prediction

    embeddings = [one.embeddings for one in found if one.embeddings is not None]
    return Prediction(np.concatenate([one.logits for one in found]), np.concatenate(embeddings) if embeddings else None)


def detector_card(loaded: LoadedDetector) -> dict[str, Any]:
    """A detector as the API shows it: method, paper, weights, licence, measured figures."""
    meta, card = loaded.detector.meta, loaded.card
    return {
        "name": loaded.detector.name,
        "available": True,
        "title": meta.title,
        "paper": meta.paper,
        "year": meta.year,
        "url": meta.url,
        "looks_at": meta.looks_at,
        "input": type(loaded.detector.input).__name__,
        "profile": card.profile,
        "weights": loaded.label,
        "parameters": sum(p.numel() for p in loaded.detector.parameters()),
        "licence": card.licence,
        "data": card.data,
        "limits": card.limits,
        "calibrated": card.calibration is not None,
        "metrics": [metric.model_dump(mode="json") for metric in card.metrics],
    }


class Runner:
    """Takes analyses from the store and runs the pipeline over the graph; what it passes on are references."""

    def __init__(self, args: GraphArgs, tracking: Any, landmarks: Any, groups: dict[str, Any]) -> None:
        for module in args.modules:
            importlib.import_module(module)
        self._args = args
        self._parts = {"tracking": tracking, "landmarks": landmarks, **{f"group {k}": v for k, v in groups.items()}}
        self._groups = groups
        self._cards: list[dict[str, Any]] | None = None
        self._notify: Callable[[], None] = lambda: None
        self._work = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        from serve.runner import JobRunner
        from serve.stages import RayStages
        from serve.storage import Storage
        from serve.store import SQLiteStore

        graph = await self._connect()
        storage = Storage(self._args.folder)
        store = SQLiteStore(self._args.folder / "jobs.sqlite3")
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        stages = lambda: RayStages(graph, uuid.uuid4().hex)  # noqa: E731
        runner = JobRunner(store, storage, stages, self._args.runner, owner)
        self._notify = runner.notify
        await runner.run()

    async def _connect(self) -> Graph:
        from serve.stages import Graph

        infos: dict[str, DetectorInfo] = {}
        owner: dict[str, str] = {}
        cards: list[dict[str, Any]] = []
        for key, group in self._groups.items():
            there = await group.infos.remote()
            infos |= there
            owner |= dict.fromkeys(there, key)
            cards += [{**card, "group": key} for card in await group.cards.remote()]
        landmarks = self._parts["landmarks"]
        graph = Graph(
            self._parts["tracking"], landmarks, self._groups, infos, owner, await landmarks.extractor.remote()
        )
        self._cards = sorted(cards, key=lambda card: card["name"])
        return graph

    async def notify(self) -> None:
        """An analysis is waiting."""
        self._notify()

    async def detectors(self) -> list[dict[str, Any]] | None:
        """The cards of all groups; None while they load."""
        return self._cards

    async def ready(self) -> dict[str, bool]:
        """Each part of the graph, and whether it answers."""

        async def answers(handle: Any) -> bool:
            try:
                return bool(await asyncio.wait_for(handle.ping.remote(), ANSWER_S))
            except Exception:
                return False

        found = await asyncio.gather(*(answers(handle) for handle in self._parts.values()))
        return {"runner": self._cards is not None, **dict(zip(self._parts, found, strict=True))}

    async def check_health(self) -> None:
        """Raises what ended the work, so that Serve starts another."""
        if self._work.done():
            raise RuntimeError("the runner stopped") from self._work.exception()

    async def __del__(self) -> None:
        self._work.cancel()
        await asyncio.wait([self._work], timeout=2)


class Gateway:
    """The API as a deployment: HTTP in and out, files to disk, nothing large through Ray."""

    def __init__(self, args: GraphArgs, runner: Any) -> None:
        self._args = args
        self._runner = runner
        self._cards: list[dict[str, Any]] | None = None

    def __serve_build_asgi_app__(self) -> FastAPI:
        from preprocessing.media import keep_spare
        from serve.gateway import Services, create_app
        from serve.storage import Storage
        from serve.store import SQLiteStore

        keep_spare()  # every upload's header is read in one
        services = Services(
            store=SQLiteStore(self._args.folder / "jobs.sqlite3"),
            storage=Storage(self._args.folder),
            args=self._args.gateway,
            settings=self._args.settings,
            detectors=self._detectors,
            ready=self._ready,
            notify=self._notify,
        )
        return create_app(services)

    async def _detectors(self) -> list[dict[str, Any]]:
        from serve.problems import busy

        if self._cards is None:
            self._cards = await self._runner.detectors.remote()
        if self._cards is None:
            raise busy("the detectors are still loading", 5)
        return self._cards

    async def _ready(self) -> dict[str, bool]:
        try:
            parts: dict[str, bool] = await asyncio.wait_for(self._runner.ready.remote(), 2 * ANSWER_S)
        except Exception:
            parts = {"runner": False}
        return {"gateway": True, **parts}

    def _notify(self) -> None:
        self._runner.notify.remote()
