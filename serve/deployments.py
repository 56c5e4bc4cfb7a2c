"""The deployments of the graph: thin hosts of the analysis steps, of the runner and of the API.

Plain classes, so that Ray finds them by their import path; serve.app makes deployments of them. Imports are inside the
constructors where they are heavy: the gateway, tracking and landmarks run without torch.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.inputs import FaceInput
from preprocessing.settings import MediaLimits, TrackingSettings
from preprocessing.types import CropChunk, MediaInfo, Track
from serve.settings import GraphArgs, LandmarkArgs, TrackingArgs
from serve.tracing import during, log_lines, under_way

if TYPE_CHECKING:
    from fastapi import FastAPI

    from detectors.steps import ChunkMeta, TrackingSummary
    from serve.graph import Graph

ANSWER_S = 5.0
"""A part that does not answer its ping for so long is not ready."""
DETECTORS_S = 60.0
"""While detectors load, as after a change of weights, a request that needs to know them waits for so long."""
CARDS_S = 10.0
"""The gateway asks again which detectors there are so long after it was told: groups come late, weights change."""


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
        _check_confined()
        from detectors.steps import TrackingStep
        from preprocessing.faces import create_face_detector
        from preprocessing.media import keep_nursery

        log_lines("tracking")
        self._step = TrackingStep()
        keep_nursery()
        self._free = [ThreadPoolExecutor(1, "tracking")]
        # The first analysis should not pay for imports and model files, some of which are loaded once a thread; nor
        # should the start, so this goes on behind it.
        blank = np.zeros((80, 80, 3), np.uint8)
        self._free[0].submit(lambda: create_face_detector("auto", still=True).detect(blank))
        self._ahead = args.ahead_bytes
        self._paces: dict[str, _Pace] = {}

    async def track(
        self, analysis: str, session: str, path: Path, limits: MediaLimits, settings: TrackingSettings
    ) -> AsyncIterator[MediaInfo | ChunkMeta | CropChunk | TrackingSummary]:
        """TrackingStep's messages; a CropChunk follows its ChunkMeta. Raises MediaError."""
        from detectors.steps import describe

        pace = self._paces[session] = _Pace()
        messages = self._step(path, limits, settings)
        # One thread: when the stream is cancelled, closing waits there for the frame that is being decoded.
        thread = self._free.pop() if self._free else ThreadPoolExecutor(1, "tracking")
        loop = asyncio.get_running_loop()
        try:
            with during(analysis, "tracking"):
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

    async def credentials(self, analysis: str, path: Path) -> dict[str, str]:
        """What is signed in the file, read in a confined process."""
        from preprocessing.media import read_credentials

        with during(analysis, "credentials"):
            return await asyncio.to_thread(read_credentials, path)

    async def consumed(self, session: str, chunks: int) -> None:
        """So many chunks of the session are no longer waiting."""
        if (pace := self._paces.get(session)) is not None:
            pace.consumed = max(pace.consumed, chunks)
            pace.moved.set()

    async def ping(self) -> bool:
        """It answers."""
        return True

    async def load(self) -> dict[str, int]:
        """Steps that it has in hand."""
        return under_way()


class Landmarks:
    """Landmarks and detector inputs of chunks; calibration by a second decode."""

    def __init__(self, args: LandmarkArgs) -> None:
        _check_confined()
        from detectors.steps import LandmarkStep

        log_lines("landmarks")
        self._step = LandmarkStep(args.model)
        self._thread = ThreadPoolExecutor(1, "landmarks")

    async def extractor(self) -> str:
        """Name of the landmark extractor."""
        return self._step.extractor

    async def landmarks(
        self, analysis: str, reference: list[Any], wanted: dict[int, list[FaceInput]], frame_size: tuple[int, int]
    ) -> AsyncIterator[Any]:
        """LandmarkStep on the chunk behind `reference[0]`: first (landmarks, quality), then the crops of `wanted` as
        {input: {face: crop}}, in the parcels that serve.stages.parcels tells."""
        from serve.stages import parcels

        with during(analysis, "landmarks"):
            chunk = await reference[0]
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._thread, self._step, chunk, wanted, frame_size)
        yield found.landmarks, found.quality
        for inside in parcels(wanted):
            yield {spec: {face: found.samples[face][spec] for face in faces} for spec, faces in inside.items()}

    async def calibrate(
        self, analysis: str, path: Path, limits: MediaLimits, tracks: Mapping[int, Track]
    ) -> dict[int, NDArray[np.float32]]:
        """LandmarkStep.calibrate, whose decoding process ends when the request is cancelled."""
        stop = threading.Event()
        try:
            with during(analysis, "calibration"):
                return await asyncio.to_thread(self._step.calibrate, path, limits, tracks, stop)
        finally:
            stop.set()

    async def ping(self) -> bool:
        """It answers."""
        return True

    async def load(self) -> dict[str, int]:
        """Steps that it has in hand."""
        return under_way()


class Runner:
    """Takes analyses from the store and runs the pipeline over the graph; what it passes on are references."""

    def __init__(self, args: GraphArgs, tracking: Any, landmarks: Any, groups: dict[str, Any]) -> None:
        log_lines("runner")
        for module in args.modules:
            importlib.import_module(module)
        self._args = args
        # A group that scales to zero would be woken by each question whether it is ready.
        awake = {f"group {key}": group for key, group in groups.items() if args.groups[key].fewest_replicas}
        self._parts = {"tracking": tracking, "landmarks": landmarks, **awake}
        self._groups = groups
        self._graph: Graph | None = None
        self._met = asyncio.Event()
        self._notify: Callable[[], None] = lambda: None
        self._work = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        from serve.graph import Graph
        from serve.meters import GraphMeters
        from serve.runner import JobRunner
        from serve.stages import RayStages
        from serve.storage import Storage
        from serve.store import JobStore

        landmarks = self._parts["landmarks"]
        graph = Graph(self._parts["tracking"], landmarks, self._groups, await landmarks.extractor.remote())
        await graph.meet(self._args.runner.groups_wait_s)
        self._graph = graph
        self._met.set()
        storage = Storage(self._args.folder)
        store = JobStore(self._args.place)
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        runner = JobRunner(
            store, storage, lambda job: RayStages(graph, job.id), self._args.runner, owner, GraphMeters(graph.infos)
        )
        self._notify = runner.notify
        await runner.run()

    async def notify(self) -> None:
        """An analysis is waiting."""
        self._notify()

    async def detectors(self) -> list[dict[str, Any]] | None:
        """The cards of all groups; None where they still load after DETECTORS_S."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DETECTORS_S):
                await self._met.wait()
        if self._graph is None:
            return None
        return self._graph.cards({key: group.detectors or () for key, group in self._args.groups.items()})

    async def ready(self) -> dict[str, bool]:
        """Each part of the graph that is always there, and whether it answers."""

        async def answers(handle: Any) -> bool:
            try:
                async with asyncio.timeout(ANSWER_S):
                    return bool(await handle.ping.remote())
            except Exception:
                return False

        found = await asyncio.gather(*(answers(handle) for handle in self._parts.values()))
        return {"runner": self._graph is not None, **dict(zip(self._parts, found, strict=True))}

    async def in_hand(self) -> dict[str, dict[str, int]]:
        """Of each part of the graph, this one included, the steps that it has in hand."""
        from serve.graph_state import in_hand

        return {"runner": under_way(), **await in_hand(self._parts)}

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
        self._cards_at = 0.0
        self._asking = asyncio.Lock()

    def __serve_build_asgi_app__(self) -> FastAPI:
        from ray._private.authentication.authentication_utils import is_token_auth_enabled  # nothing public tells it

        from preprocessing.media import keep_nursery
        from serve.gateway import create_app
        from serve.launch import check_nodes, check_public, check_ray, listens_on
        from serve.services import Services
        from serve.storage import Storage
        from serve.store import JobStore

        log_lines("gateway")
        host, _ = listens_on()
        check_public(host, self._args.folder)
        check_ray(host, is_token_auth_enabled())
        check_nodes(self._args)
        keep_nursery()  # every upload has its header read
        services = Services(
            store=JobStore(self._args.place),
            storage=Storage(self._args.folder),
            args=self._args.gateway,
            settings=self._args.settings,
            detectors=self._detectors,
            ready=self._ready,
            notify=self._notify,
            graph=self._graph,
        )
        return create_app(services)

    async def _detectors(self) -> list[dict[str, Any]]:
        from serve.problems import busy

        async with self._asking:  # one question for all who wait
            if self._cards is None or time.monotonic() - self._cards_at > CARDS_S:
                self._cards = await self._runner.detectors.remote()
                self._cards_at = time.monotonic()
        if self._cards is None:
            raise busy("the detectors are still loading", 5)
        return self._cards

    async def _ready(self) -> dict[str, bool]:
        try:
            async with asyncio.timeout(2 * ANSWER_S):
                parts: dict[str, bool] = await self._runner.ready.remote()
        except Exception:
            parts = {"runner": False}
        return {"gateway": True, **parts}

    async def _graph(self) -> dict[str, Any]:
        from serve.graph_state import look

        return await look(self._runner)

    def _notify(self) -> None:
        self._runner.notify.remote()


def _check_confined() -> None:
    """On each node that decodes: it may be unlike the gateway's."""
    from serve.launch import check_confined, listens_on

    check_confined(listens_on()[0])
