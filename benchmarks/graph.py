"""The graph through HTTP, warm: an image from upload to the last event, beside the same in one process; refusals; cost.

    python -m benchmarks.graph

Starts the laptop config on a Ray of its own with the weights that are there, in a storage folder of its own; then again
with the detectors in two groups, whose fan-out is compared with the slower of the two. Needs a quiet machine: the
figures are wall times of many processes. Images alternate between the graph and the process, so that both see the same
machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.service import Service, memory_mb, service
from benchmarks.yardstick import scaled, yardstick_ms

REPEATS = 20
WARM_UP = 5
TARGET_MS = 500.0
"""What one warm image may take on two cores of the machine that the baselines were taken on."""
TARGET_OVER = 0.15
TARGET_OVER_MS = 60.0
"""What the graph may take more than the process, from a runner's lease to its answer: the larger of the two. What HTTP,
the upload, the queue and the events add before and after is told beside it, without a limit of its own."""
TARGET_FAN_OUT = 1.3
"""The detectors side by side over the slowest group alone."""
SLOW_GROUP = "frame_cnn"


def _analyse(graph: Service, **form: str) -> dict[str, Any]:
    answer = graph.post(**form)
    answer.raise_for_status()
    found = graph.followed(answer.headers["location"])
    if found["status"] != "done":
        raise RuntimeError(f"the analysis {found['status']}: {found['error']}")
    return found


def _refused(graph: Service) -> None:
    answer = graph.http.post("/v1/analyses", files={"file": ("notes.mp4", b"no video at all")})
    if answer.status_code != 415:
        raise RuntimeError(f"a text was answered {answer.status_code}")


def _alternately(acts: list[Callable[[], Any]]) -> list[list[float]]:
    """Milliseconds of each act, one after the other, warm."""
    times: list[list[float]] = [[] for _ in acts]
    for number in range(WARM_UP + REPEATS):
        for act, found in zip(acts, times, strict=True):
            start = time.perf_counter()
            act()
            if number >= WARM_UP:
                found.append((time.perf_counter() - start) * 1e3)
    return times


def _row(metric: str, times: list[float], unit: str = "ms", baseline: float | None = None) -> dict[str, Any]:
    value = float(np.median(times))
    row: dict[str, Any] = {"bench": "graph", "metric": metric, "value": round(value, 2), "unit": unit}
    if baseline is not None:
        row |= {"baseline": round(baseline, 2), "ratio": round(value / baseline, 2)}
    low, high = np.percentile(times, [10, 90])
    return {**row, "n": len(times), "spread": round(float(high - low), 2)}


def _fan_out() -> list[dict[str, Any]]:
    """Two groups, one core each: the detectors' part of an analysis with both, over that with each alone."""
    groups = {"detectors": {"detectors": [SLOW_GROUP], "threads": 1}, "others": {"threads": 1}}
    with service({"groups": groups}) as graph:
        others = [card["name"] for card in graph.http.get("/v1/detectors").json() if card["group"] == "others"]
        times: dict[str, list[float]] = {}
        for number in range(WARM_UP + REPEATS):
            for which, names in (("both", [SLOW_GROUP, *others]), ("slow", [SLOW_GROUP]), ("others", others)):
                found = _analyse(graph, settings=json.dumps({"detectors": names}))
                if number >= WARM_UP:
                    times.setdefault(which, []).append(found["result"]["timings"]["detectors"] * 1e3)
    slowest = max(("slow", "others"), key=lambda which: float(np.median(times[which])))
    return [
        _row("detectors in two groups, both", times["both"]),
        _row("the slower group alone", times[slowest]),
        _row("both over the slower alone", [float(np.median(times["both"]) / np.median(times[slowest]))], "times",
             TARGET_FAN_OUT),
    ]  # fmt: skip


def run() -> list[dict[str, Any]]:
    """Rows {bench, metric, value, unit, baseline?, ratio?, n, spread}; spread is the 10th to the 90th percentile."""
    from detectors.local import LocalStages, analyse_file
    from detectors.store import load_available
    from preprocessing.media import keep_nursery

    keep_nursery()  # as the service does
    with service() as graph:
        detectors = [card["name"] for card in graph.http.get("/v1/detectors").json()]
        answers: list[dict[str, Any]] = []
        here = LocalStages(load_available())
        image, alone = _alternately(
            [lambda: answers.append(_analyse(graph)), lambda: analyse_file(graph.portrait, here)]
        )
        (refusal,) = _alternately([lambda: _refused(graph)])
        memory, up = memory_mb(), graph.start_s
    limit = scaled(TARGET_MS, yardstick_ms())
    graphs = [(found["finished"] - found["started"]) * 1e3 for found in answers[WARM_UP:]]
    over, whole = ([a - b for a, b in zip(times, alone, strict=True)] for times in (graphs, image))
    return [
        _row(f"one image, warm, upload to result ({', '.join(detectors) or 'no detectors'})", image, baseline=limit),
        _row("of it in the graph, from a runner's lease to its answer", graphs),
        _row("the same image in this process", alone),
        _row("the graph, lease to answer, over the process", over,
             baseline=max(TARGET_OVER * float(np.median(alone)), TARGET_OVER_MS)),
        _row("the service, upload to result, over the process", whole),
        _row("a refused file", refusal),
        _row("start until ready", [up], "s"),
        _row("memory (PSS) of all processes", [memory], "MB"),
        *_fan_out(),
    ]  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
