"""What is measured of the service, for Prometheus.

The API's own figures are at its /metrics. Those of the graph (stages, detectors, scores) are made where the work is
done, through Ray, and are at the metrics port of each Ray node.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel
from starlette.types import Scope

from serve.drift import Drift

if TYPE_CHECKING:
    from detectors.result import AnalysisResult
    from detectors.scoring import DetectorInfo

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
SCORES = tuple(step / 10 for step in range(1, 10))


class RouteFigures(BaseModel):
    """Requests of one route since this process of the API began: answers by status; seconds until they began, between
    the histogram's bounds (None where none was answered)."""

    method: str
    route: str
    answers: dict[str, int]
    median_s: float | None
    p95_s: float | None


class ApiMeters:
    """Of one process of the API."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "unmask_requests", "Answered requests", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "unmask_request_seconds", "Until an answer begins", ["method", "route"], buckets=SECONDS,
            registry=self._registry,
        )  # fmt: skip
        self._jobs = Gauge("unmask_analyses", "Analyses in the store", ["status"], registry=self._registry)
        self._uploads = Gauge("unmask_uploads", "Uploads that come in", registry=self._registry)
        self._streams = Gauge("unmask_event_streams", "Open progress streams", registry=self._registry)
        self._free = Gauge("unmask_storage_free_bytes", "Free space of the storage", registry=self._registry)

    def request(self, scope: Scope, status: int, seconds: float) -> None:
        """One answer. The route is its pattern: an address with ids in it would be a series of its own each."""
        route = getattr(scope.get("route"), "path", "other")
        self._requests.labels(scope["method"], route, str(status)).inc()
        self._seconds.labels(scope["method"], route).observe(seconds)

    def routes(self) -> list[RouteFigures]:
        """The figures by route, the most asked first."""
        answers: dict[tuple[str, str], dict[str, int]] = {}
        for sample in _samples(self._requests, "unmask_requests_total"):
            labels = sample.labels
            answers.setdefault((labels["method"], labels["route"]), {})[labels["status"]] = int(sample.value)
        below: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for sample in _samples(self._seconds, "unmask_request_seconds_bucket"):
            key = sample.labels["method"], sample.labels["route"]
            below.setdefault(key, []).append((float(sample.labels["le"]), sample.value))
        found = [
            RouteFigures(
                method=method,
                route=route,
                answers=counts,
                median_s=quantile(below.get((method, route), []), 0.5),
                p95_s=quantile(below.get((method, route), []), 0.95),
            )
            for (method, route), counts in answers.items()
        ]
        return sorted(found, key=lambda one: -sum(one.answers.values()))

    def text(self, counts: Mapping[str, int], uploads: int, streams: int, free: int) -> bytes:
        """All of it in Prometheus's text format."""
        for status in ("queued", "running", "done", "failed", "cancelled"):
            self._jobs.labels(status).set(counts.get(status, 0))
        self._uploads.set(uploads)
        self._streams.set(streams)
        self._free.set(free)
        found: bytes = generate_latest(self._registry)
        return found


def _samples(metric: Counter | Histogram, name: str) -> Iterator[Any]:
    return (sample for family in metric.collect() for sample in family.samples if sample.name == name)


def quantile(below: Sequence[tuple[float, float]], share: float) -> float | None:
    """Of a histogram's (upper bound, count at or below it), rising, the last infinite: linear within a bucket, as
    Prometheus' histogram_quantile. In the last one its lower bound; None of nothing."""
    if not below or not below[-1][1]:
        return None
    wanted, low, under = share * below[-1][1], 0.0, 0.0
    for bound, count in below:
        if count >= wanted and count > under:
            return low if bound == float("inf") else low + (bound - low) * (wanted - under) / (count - under)
        low, under = bound, count
    return low


class GraphMeters:
    """Of one runner, through Ray's metrics: what each analysis cost, said, and where detectors failed."""

    def __init__(self, infos: Mapping[str, DetectorInfo]) -> None:
        """`infos`: the detectors of the graph, which may grow; those whose cards tell their scores' shares are watched
        for drift."""
        from ray.util import metrics

        self._ended = metrics.Counter("unmask_ended", "Analyses that ended", ("outcome",))
        self._stage = metrics.Histogram("unmask_stage_seconds", "By stage", list(SECONDS), ("stage",))
        self._detector = metrics.Counter("unmask_detector_answers", "By detector and status", ("detector", "status"))
        self._score = metrics.Histogram("unmask_score", "Calibrated scores", list(SCORES), ("detector",))
        self._drift = metrics.Gauge(
            "unmask_score_drift",
            "Of the last 500 scores, the share that no mixture of the card's explains",
            ("detector",),
        )
        self._infos = infos
        self._drifts: dict[tuple[str, str], Drift] = {}

    def done(self, result: AnalysisResult) -> None:
        """One that gave a result."""
        self._ended.inc(1.0, {"outcome": result.verdict})
        for stage, seconds in result.timings.items():
            self._stage.observe(max(seconds, 1e-6), {"stage": stage})
        for face in result.faces:
            for name, score in face.detectors.items():
                self._detector.inc(1.0, {"detector": name, "status": score.status})
                if score.score is not None:
                    self._score.observe(score.score, {"detector": name})
                    if (drift := self._drift_of(name)) is not None and (moved := drift.add(score.score)) is not None:
                        self._drift.set(moved, {"detector": name})
            if face.fused is not None:
                self._score.observe(face.fused, {"detector": "fused"})

    def _drift_of(self, name: str) -> Drift | None:
        """Of these weights: others begin anew."""
        info = self._infos.get(name)
        if info is None or info.calibration is None or info.calibration.shares is None:
            return None
        return self._drifts.setdefault((name, info.sha256), Drift(info.calibration.shares))

    def failed(self, code: str) -> None:
        """One that gave none; `code` as in its answer."""
        self._ended.inc(1.0, {"outcome": code})


class NoMeters:
    """Where nothing is watched: outside Ray."""

    def done(self, result: AnalysisResult) -> None:
        """Nothing."""

    def failed(self, code: str) -> None:
        """Nothing."""


Meters = GraphMeters | NoMeters
