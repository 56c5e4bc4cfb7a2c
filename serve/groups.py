"""The deployment that hosts detectors: samples of all analyses share forward passes."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detectors.turns import Turns
from preprocessing.inputs import ClipInput, FaceInput, LandmarkInput
from preprocessing.memory import share_arenas
from serve.calls import Wish, crops_of, portable
from serve.graph import OtherWeights
from serve.settings import GroupArgs
from serve.tracing import during, log_lines, under_way

if TYPE_CHECKING:
    from detectors.predict import Prediction
    from detectors.scoring import DetectorInfo
    from detectors.steps import TrackPrediction
    from detectors.store import LoadedDetector

log = logging.getLogger("unmask.graph")
TOGETHER_S = 0.05
"""Each message between processes costs a few milliseconds."""


class DetectorGroup:
    """Hosts detectors, each with a thread of its own, so that one that hangs does not hold up the others.

    Samples of all analyses that wait for the same detector share forward passes of at most `batch_size`; a track's
    samples go in as parts of that size, so a long video cannot keep an image waiting for more than one pass.
    """

    def __init__(self, args: GroupArgs, elsewhere: frozenset[str], modules: Sequence[str]) -> None:
        import torch

        from detectors.backends import on_backend
        from detectors.steps import DetectStep
        from detectors.store import available, load

        log_lines("group")
        share_arenas()
        torch.set_num_threads(args.threads)
        device = device_for("cpu" if args.backend == "onnx" else args.device)
        for module in modules:
            importlib.import_module(module)
        self._args = args
        self._unusable: dict[str, str] = {}
        wanted = args.detectors if args.detectors is not None else [n for n in available() if n not in elsewhere]
        loaded: dict[str, LoadedDetector] = {}
        for name in wanted:
            try:
                one = load(name)
                one.detector.to(device)
                loaded |= on_backend({name: one}, args.backend)
            except Exception as error:  # damaged weights cost their detector, not the group
                log.error("detector %s cannot be used: %s", name, error)
                self._unusable[name] = str(error)
        self._step = DetectStep(loaded)
        self._turns = Turns((os.cpu_count() or 1) // args.threads)
        self._threads = {name: ThreadPoolExecutor(1, name) for name in loaded}
        self._batched = {name: self._batching(one, self._threads[name]) for name, one in loaded.items()}
        for name, one in loaded.items():
            self._threads[name].submit(self._warm, one)

    def _batching(
        self, loaded: LoadedDetector, thread: ThreadPoolExecutor
    ) -> Callable[[NDArray[Any]], Awaitable[Prediction | Exception]]:
        from ray import serve as rayserve  # here: what only wants a detector's card needs no Ray

        async def pass_of(parts: list[NDArray[Any]]) -> list[Prediction | Exception]:
            async with self._turns.turn():
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
        self, analysis: str, wishes: Sequence[Wish]
    ) -> AsyncIterator[list[tuple[int, TrackPrediction | Exception]]]:
        """DetectStep for each wish side by side: its number and the answer, or what was raised; those that end within
        TOGETHER_S travel together.

        OtherWeights where a detector's weights are not those of the wish, by whose card the answer would be read: a
        replica that starts after new ones came into the store has them before the graph is deployed again.
        """
        fetched: dict[Any, asyncio.Future[Any]] = {}
        tasks = [asyncio.create_task(self._granted(analysis, n, wish, fetched)) for n, wish in enumerate(wishes)]
        waiting = set(tasks)
        try:
            while waiting:
                ended, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if waiting:
                    soon, waiting = await asyncio.wait(waiting, timeout=TOGETHER_S)
                    ended |= soon
                yield [task.result() for task in ended]
        finally:
            for task in (*tasks, *fetched.values()):
                task.cancel()

    async def _granted(
        self, analysis: str, number: int, wish: Wish, fetched: dict[Any, asyncio.Future[Any]]
    ) -> tuple[int, TrackPrediction | Exception]:
        loaded = self._step.loaded.get(wish.name)
        if loaded is None or loaded.card.sha256 != wish.sha256:
            return number, OtherWeights(wish.name)
        try:
            with during(analysis, wish.name, samples=len(wish.samples)):
                return number, await self._detect(wish, fetched)
        except Exception as error:  # of one detector: the others answer all the same
            return number, portable(error)

    async def _detect(self, wish: Wish, fetched: dict[Any, asyncio.Future[Any]]) -> TrackPrediction:
        from detectors.predict import clips_of

        start = time.perf_counter()
        name, samples = wish.name, wish.samples
        batch = samples if isinstance(samples, np.ndarray) else await crops_of(samples, fetched)
        size = clips_of(self._args.batch_size, self._step.loaded[name].detector.input)
        parts = [batch[i : i + size] for i in range(0, len(batch), size)]
        found = await asyncio.gather(*(self._batched[name](part) for part in parts))
        for one in found:
            if isinstance(one, Exception):
                raise one
        joined = _join([one for one in found if not isinstance(one, Exception)])
        loop = asyncio.get_running_loop()
        thread = self._threads[name]
        async with self._turns.turn():
            return await loop.run_in_executor(thread, self._step.complete, name, batch, joined, wish.maps, start)

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

    async def load(self) -> dict[str, int]:
        """Calls that it has in hand, by detector; those that wait for a batch included."""
        return under_way()


def device_for(wanted: str) -> str:
    """Of torch. `auto`: the GPU only where Ray gave this process one. Ray hides it from nobody who asked for none."""
    if wanted != "auto":
        return wanted
    import ray
    import torch

    given = ray.get_runtime_context().get_accelerator_ids().get("GPU")
    return "cuda" if given and torch.cuda.is_available() else "cpu"


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
    from detectors.explain import map_kind

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
        "map": map_kind(loaded.detector),
        "profile": card.profile,
        "weights": loaded.label,
        "sha256": card.sha256,
        "bytes": card.bytes,
        "date": card.date,
        "parameters": sum(p.numel() for p in loaded.detector.parameters()),
        "licence": card.licence,
        "data": card.data,
        "limits": card.limits,
        "calibrated": card.calibration is not None,
        "calibration": card.calibration.fitted_on if card.calibration else "",
        "metrics": [metric.model_dump(mode="json") for metric in card.metrics],
    }
