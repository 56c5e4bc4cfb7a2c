"""The pipeline's stages as calls to deployments; pixels stay behind Ray's object references.

Everything large is an item of a stream that this process never fetches: it passes the item's reference on. So the
runner owns what an analysis needs, whichever process made it, and Ray frees it when the analysis lets go or the runner
dies. (References that a deployment puts into its answer are not safe: Serve's calls are streams, and Ray may free what
such a reference points to before the receiver is known to hold it.)
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray.exceptions import ObjectLostError, RayActorError, RayError, RayTaskError

from detectors.scoring import DetectorInfo
from detectors.steps import ChunkMeta, LandmarkedChunk, TrackingSummary, TrackPrediction, encode_crop
from preprocessing.inputs import FaceInput
from preprocessing.settings import MediaLimits, TrackingSettings
from preprocessing.types import MediaInfo, Track
from serve.calls import GroupCalls, Wish
from serve.graph import Graph, OtherWeights
from serve.runner import PartLost

log = logging.getLogger("unmask.graph")


PARCEL_BYTES = 1 << 20
"""Crops of a chunk travel together up to here: a few faces' in one piece, where each piece costs a millisecond or two;
many faces' by their kind, so that a detector elsewhere does not fetch what others look at."""


@dataclass(frozen=True)
class Sample:
    """One face's crop: `parcel` is a reference to {input: {face: crop (H, W, 3)}} of a chunk."""

    parcel: Any
    spec: FaceInput
    face: int


def parcels(wanted: Mapping[int, Sequence[FaceInput]]) -> list[dict[FaceInput, list[int]]]:
    """The faces that want each distinct crop, in the parcels and in the order in which the crops travel."""
    faces_of: dict[FaceInput, list[int]] = {}
    for face, specs in wanted.items():
        for spec in specs:
            faces_of.setdefault(spec, []).append(face)
    found: list[dict[FaceInput, list[int]]] = []
    filled = PARCEL_BYTES
    for spec, faces in faces_of.items():
        size = len(faces) * spec.size**2 * 3
        if filled + size > PARCEL_BYTES:
            found.append({})
            filled = 0
        found[-1][spec] = faces
        filled += size
    return found


class RayStages:
    """Implements detectors.pipeline.Stages for one run of one analysis, whose id the parts are told."""

    def __init__(self, graph: Graph, analysis: str) -> None:
        self._graph = graph
        self._analysis = analysis
        self._session = uuid.uuid4().hex  # an analysis that is run again shares nothing with its first run
        self._infos = dict(graph.infos)  # one analysis is read by the same cards from its beginning to its end
        self.extractor = graph.extractor
        self.lost = False
        """A process died during this analysis: what it held is gone, and the answer is not whole."""
        self._opened: tuple[Any, Any] | None = None
        """The parcel that a picture was taken from last, and what is in it: of an image all are."""
        self._calls = GroupCalls(graph.groups, analysis, self._meaning)

    def infos(self) -> Mapping[str, DetectorInfo]:
        return self._infos

    async def track(
        self, path: Path, limits: MediaLimits, settings: TrackingSettings
    ) -> AsyncGenerator[MediaInfo | tuple[ChunkMeta, Any] | TrackingSummary, None]:
        call = self._graph.tracking.options(stream=True).track.remote(
            self._analysis, self._session, path, limits, settings
        )
        chunks = 0
        whole = False
        try:
            stream = await call._to_object_ref_gen()
            async for message in stream:
                item = await message
                if not isinstance(item, ChunkMeta):
                    whole = isinstance(item, TrackingSummary)
                    yield self._told(item) if isinstance(item, TrackingSummary) else item
                    continue
                yield item, await self._next(stream)
                chunks += 1
                # Asked for the next, so this one is with the landmarks. All replicas hear it, one knows the session.
                if chunks % 2 == 0:
                    self._graph.tracking.broadcast("consumed", self._session, chunks)._ensure_scheduled()
            if not whole:
                raise self._ended()
        except RayError as error:
            raise self._plain(error) from None
        finally:
            call.cancel()

    async def landmarks(
        self, reference: Any, wanted: Mapping[int, Sequence[FaceInput]], frame_size: tuple[int, int]
    ) -> LandmarkedChunk:
        method = self._graph.landmarks.options(stream=True).landmarks
        # In a list: a bare reference would be fetched into this process on the way.
        specs_of = {face: list(specs) for face, specs in wanted.items()}
        call = method.remote(self._analysis, [reference], specs_of, frame_size)
        try:
            stream = await call._to_object_ref_gen()
            points, quality = await (await self._next(stream))
            samples: dict[int, dict[FaceInput, Any]] = {face: {} for face in wanted}
            for inside in parcels(wanted):
                parcel = await self._next(stream)
                for spec, faces in inside.items():
                    for face in faces:
                        samples[face][spec] = Sample(parcel, spec, face)
            return LandmarkedChunk(points, quality, samples)
        except asyncio.CancelledError:
            call.cancel()
            raise
        except RayError as error:
            raise self._plain(error) from None

    async def calibrate(
        self, path: Path, limits: MediaLimits, tracks: Mapping[int, Track]
    ) -> dict[int, NDArray[np.float32]]:
        call = self._graph.landmarks.calibrate.remote(self._analysis, path, limits, dict(tracks))
        rows: dict[int, NDArray[np.float32]] = await self._answer(call)
        return rows

    async def detect(self, name: str, samples: Sequence[Any] | NDArray[Any], maps: int) -> TrackPrediction:
        key = self._graph.owner[name]
        given = samples if isinstance(samples, np.ndarray) else list(samples)
        try:
            return await self._calls.ask(key, Wish(name, self._infos[name].sha256, given, maps))
        except OtherWeights:
            self.lost = True
            with contextlib.suppress(Exception):  # asked again by the next run, which meets the same
                await self._graph.ask(key)
            raise PartLost(f"the weights of {name} were changed") from None

    def _told(self, summary: TrackingSummary) -> TrackingSummary:
        """With a warning where groups of detectors were never there."""
        if not (absent := self._graph.absent):
            return summary
        told = f"not all detectors took part: of {', '.join(absent)} nothing answers"
        return dataclasses.replace(summary, warnings=(*summary.warnings, told), incomplete=True)

    async def credentials(self, path: Path) -> dict[str, str]:
        found: dict[str, str] = await self._answer(self._graph.tracking.credentials.remote(self._analysis, path))
        return found

    async def jpeg(self, reference: Any) -> bytes:
        if self._opened is None or self._opened[0] != reference.parcel:
            try:
                self._opened = (reference.parcel, await reference.parcel)
            except RayError as error:
                raise self._plain(error) from None
        crop = self._opened[1][reference.spec][reference.face]
        return await asyncio.to_thread(encode_crop, crop)

    async def _answer(self, call: Any) -> Any:
        try:
            return await call
        except asyncio.CancelledError:
            call.cancel()
            raise
        except RayError as error:
            raise self._plain(error) from None

    async def _next(self, stream: Any) -> Any:
        """The next item, which must be there."""
        try:
            return await anext(stream)
        except StopAsyncIteration:
            raise self._ended() from None

    def _ended(self) -> PartLost:
        """A stream that ends before its time, without an error: its replica was replaced meanwhile."""
        self.lost = True
        log.warning("a part of the graph was replaced")
        return PartLost("the process that ran this step ended")

    def _meaning(self, error: Exception | None) -> Exception:
        """Of what a call raised; None where it ended before its time without an error."""
        if error is None:
            return self._ended()
        return self._plain(error) if isinstance(error, RayError) else error

    def _plain(self, error: RayError) -> Exception:
        """The exception that the step raised, without Ray's wrapping and the remote stack trace."""
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, RayTaskError):
            return self._plain(cause)
        if isinstance(cause, (RayActorError, ObjectLostError)):
            self.lost = True
            log.warning("a part of the graph was lost: %s", str(cause).splitlines()[0])
            return PartLost("the process that ran this step died")
        return cause if isinstance(cause, Exception) else RuntimeError(str(cause))
