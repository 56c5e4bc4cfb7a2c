"""What an operator needs to see of the service now: queue, parts, latencies, refusals, failures, drift of the scores.

Figures of analyses come from the job store, so they are those of all runners and outlive a restart; what each part has
in hand is asked of its replicas; requests are those of the gateway that answers.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel
from scipy.stats import ks_2samp

from serve.meters import RouteFigures
from serve.services import Services, services_of
from serve.store import Ended

WINDOW = 400
"""The newest analyses that ended, from which the figures are."""
WINDOW_BYTES = 32 * 1024**2
"""Of their results' JSON: fewer analyses count where their results are large."""
LEAST_FOR_DRIFT = 30
"""Scores on either side without which a difference says nothing."""
KEEP_S = 3.0
"""A page that looks every few seconds, in many browsers, costs one look."""
FUSED = "fused"

router = APIRouter()


class Spread(BaseModel):
    """Seconds over `n` analyses."""

    n: int
    median: float
    p95: float
    most: float


class Queue(BaseModel):
    """Analyses by state and what bounds them; `oldest_wait_s` of the one that waits longest, 0 where none waits."""

    queued: int
    running: int
    done: int
    failed: int
    cancelled: int
    max_queued: int
    oldest_wait_s: float
    uploads: int
    max_uploads: int
    streams: int
    max_streams: int
    free_bytes: int
    min_free_bytes: int


class Part(BaseModel):
    """A deployment of the graph. `replicas` by Serve's state; `in_hand`: calls that its replicas have taken and not
    answered, by step or detector, those that wait there for a thread or a batch included."""

    name: str
    ready: bool | None
    status: str
    message: str
    replicas: dict[str, int]
    in_hand: dict[str, int]


class Drift(BaseModel):
    """Scores of the newer half of the window against the older half, as counts in ten bins of [0, 1].

    `distance`: the largest gap between their cumulative shares, 0 to 1 (Kolmogorov-Smirnov); `p` of its two-sample
    test. Both None where either side has too few scores.
    """

    newer: list[int]
    older: list[int]
    distance: float | None
    p: float | None


class Operations(BaseModel):
    """The service as it is at `at` (seconds since 1970). `analyses` ended since `since` are what the figures are of."""

    at: float
    queue: Queue
    parts: list[Part]
    application: str
    analyses: int
    since: float | None
    waited: Spread | None
    took: Spread | None
    stages: dict[str, Spread]
    outcomes: dict[str, int]
    detectors: dict[str, dict[str, int]]
    scores: dict[str, Drift]
    requests: list[RouteFigures]


@router.get("/v1/operations", response_model=Operations)
async def operations(request: Request) -> Operations:
    """Queue, parts, latencies, refusals, failures and drift (operators)."""
    kept: _Kept = request.app.state.operations
    async with kept.lock:
        if kept.found is None or time.time() - kept.found.at > KEEP_S:
            kept.found = await _look(services_of(request), request.app.state.meters.routes())
    return kept.found


class _Kept:
    """The last look, for KEEP_S."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.found: Operations | None = None


def keeper() -> _Kept:
    """Of one app."""
    return _Kept()


async def _look(services: Services, requests: list[RouteFigures]) -> Operations:
    graph, ready = await asyncio.gather(services.graph(), services.ready())
    queue, ended = await asyncio.gather(
        asyncio.to_thread(_queue, services), asyncio.to_thread(services.store.ended, WINDOW, WINDOW_BYTES)
    )
    return Operations(
        at=time.time(),
        queue=queue,
        parts=_parts(graph.get("parts", {}), ready),
        application=str(graph.get("application", "")),
        requests=requests,
        **await asyncio.to_thread(figures, ended),
    )


def _queue(services: Services) -> Queue:
    counts, args = services.store.counts(), services.args
    oldest = services.store.oldest_queued()
    states = {status: counts.get(status, 0) for status in ("queued", "running", "done", "failed", "cancelled")}
    return Queue(
        **states,
        max_queued=args.max_queued,
        oldest_wait_s=0.0 if oldest is None else max(time.time() - oldest, 0.0),
        uploads=services.uploads,
        max_uploads=args.max_uploads,
        streams=services.streams,
        max_streams=args.max_event_streams,
        free_bytes=services.storage.free_bytes(),
        min_free_bytes=args.min_free_bytes,
    )


def _parts(graph: Mapping[str, Mapping[str, Any]], ready: Mapping[str, bool]) -> list[Part]:
    """Those that Serve knows, and those that only answer their ping (a service without Serve has no others)."""
    names = list(dict.fromkeys([*ready, *graph]))
    empty: dict[str, Any] = {"status": "", "message": "", "replicas": {}, "in_hand": {}}
    return [Part(name=name, ready=ready.get(name), **{**empty, **graph.get(name, {})}) for name in names]


def figures(ended: Sequence[Ended]) -> dict[str, Any]:
    """What analyses that ended, newest first, say of the service: the fields of Operations that are about them."""
    stages: dict[str, list[float]] = defaultdict(list)
    detectors: dict[str, Counter[str]] = defaultdict(Counter)
    halves: list[dict[str, list[float]]] = []
    results = [json.loads(one.result) for one in ended if one.result]
    for half in (results[: len(results) // 2], results[len(results) // 2 :]):
        scores: dict[str, list[float]] = defaultdict(list)
        for result in half:
            for stage, seconds in result.get("timings", {}).items():
                stages[stage].append(float(seconds))
            for face in result.get("faces", []):
                _count(face, detectors, scores)
        halves.append(scores)
    newer, older = halves
    outcomes = Counter(one.verdict or one.code or one.status for one in ended)
    return {
        "analyses": len(ended),
        "since": min((one.finished for one in ended), default=None),
        "waited": spread([max(one.started - one.created, 0.0) for one in ended if one.started is not None]),
        "took": spread([one.finished - one.started for one in ended if one.started is not None and one.result]),
        "stages": {stage: found for stage, seconds in stages.items() if (found := spread(seconds)) is not None},
        "outcomes": dict(outcomes.most_common()),
        "detectors": {name: dict(counts.most_common()) for name, counts in sorted(detectors.items())},
        "scores": {name: drift(newer.get(name, []), older.get(name, [])) for name in sorted({*newer, *older})},
    }


def _count(face: Mapping[str, Any], detectors: dict[str, Counter[str]], scores: dict[str, list[float]]) -> None:
    for name, said in face.get("detectors", {}).items():
        detectors[name][said["status"]] += 1
        if said.get("score") is not None:
            scores[name].append(float(said["score"]))
    if face.get("fused") is not None:
        scores[FUSED].append(float(face["fused"]))


def spread(seconds: Iterable[float]) -> Spread | None:
    """Median, 95th percentile and most; None of nothing."""
    values = np.array(list(seconds), np.float64)
    if not values.size:
        return None
    median, p95 = np.quantile(values, [0.5, 0.95])
    return Spread(n=int(values.size), median=float(median), p95=float(p95), most=float(values.max()))


def drift(newer: Sequence[float], older: Sequence[float]) -> Drift:
    """How far two samples of scores are apart."""
    bins = [np.histogram(side, bins=10, range=(0.0, 1.0))[0].tolist() for side in (newer, older)]
    if min(len(newer), len(older)) < LEAST_FOR_DRIFT:
        return Drift(newer=bins[0], older=bins[1], distance=None, p=None)
    found = ks_2samp(newer, older)
    return Drift(newer=bins[0], older=bins[1], distance=float(found.statistic), p=float(found.pvalue))
