"""The graph through HTTP, warm: one image from upload to the final event, refusals, and what it costs to run.

    python -m benchmarks.graph

Starts the laptop config on a Ray of its own with the weights that are there, in a storage folder of its own. Needs a
quiet machine: the figures are wall times of many processes.
"""

from __future__ import annotations

import json
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.yardstick import scaled, yardstick_ms

REPEATS = 15
WARM_UP = 5
TARGET_MS = 500.0
"""What one warm image may take on two cores of the machine that the baselines were taken on."""


def _portrait(folder: Path) -> Path:
    from PIL import Image
    from skimage import data

    path = folder / "portrait.jpg"
    Image.fromarray(data.astronaut()).save(path, quality=92)
    return path


def _analyse(http: httpx.Client, path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        answer = http.post("/v1/analyses", files={"file": (path.name, file)})
    answer.raise_for_status()
    where = answer.headers["location"]
    with http.stream("GET", f"{where}/events") as events:
        for _ in events.iter_lines():
            pass
    found: dict[str, Any] = http.get(where).json()
    if found["status"] != "done":
        raise RuntimeError(f"the analysis {found['status']}: {found['error']}")
    return found


def _refused(http: httpx.Client) -> None:
    answer = http.post("/v1/analyses", files={"file": ("notes.mp4", b"no video at all")})
    if answer.status_code != 415:
        raise RuntimeError(f"a text was answered {answer.status_code}")


def _times_ms(act: Callable[[], Any]) -> list[float]:
    for _ in range(WARM_UP):
        act()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        act()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def _row(metric: str, times: list[float], unit: str = "ms", baseline: float | None = None) -> dict[str, Any]:
    value = float(np.median(times))
    row: dict[str, Any] = {"bench": "graph", "metric": metric, "value": round(value, 1), "unit": unit}
    if baseline is not None:
        row |= {"baseline": round(baseline, 1), "ratio": round(value / baseline, 2)}
    low, high = np.percentile(times, [10, 90])
    return {**row, "n": len(times), "spread": round(float(high - low), 1)}


def _memory_mb() -> float:
    """Proportional set size of Ray and all replicas."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        try:
            total += child.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 2**20


def run() -> list[dict[str, Any]]:
    """Rows {bench, metric, value, unit, baseline?, ratio?, n, spread}; spread is the 10th to the 90th percentile."""
    from serve.launch import Config, read_config, start

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        args = read_config().args.model_copy(update={"storage": folder / "storage"})
        begun = time.perf_counter()
        with (
            start(Config(args, "127.0.0.1", port)) as running,
            httpx.Client(base_url=running.url, timeout=120, trust_env=False) as http,
        ):
            up = time.perf_counter() - begun
            detectors = [card["name"] for card in http.get("/v1/detectors").json()]
            portrait = _portrait(folder)
            stages: list[dict[str, float]] = []
            image = _times_ms(lambda: stages.append(_analyse(http, portrait)["result"]["timings"]))
            refusal = _times_ms(lambda: _refused(http))
            memory = _memory_mb()
    limit = scaled(TARGET_MS, yardstick_ms())
    within = [sum(stage.values()) * 1e3 for stage in stages[WARM_UP:]]
    return [
        _row(f"one image, warm, upload to result ({', '.join(detectors) or 'no detectors'})", image, baseline=limit),
        _row("of it in tracking, landmarks and detectors", within),
        _row("a refused file", refusal),
        _row("start until ready", [up], "s"),
        _row("memory (PSS) of all processes", [memory], "MB"),
    ]


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
