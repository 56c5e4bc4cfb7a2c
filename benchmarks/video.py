"""Ten seconds of 720p at 30 frames a second, analysed in this process by all detectors that have weights.

    python -m benchmarks.video

Once with 32 sampled frames for the detectors of pictures and no landmark track, once with the landmarks of every frame
for LRNet too; and LRNet's whole path for each frame. Limits are of two cores and are scaled by the yardstick. Memory is
the largest proportional set size of this process and its children.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from benchmarks.media import moving_720p
from benchmarks.yardstick import scaled, yardstick_ms
from detectors.local import LocalStages, analyse_file
from detectors.store import load_available
from preprocessing.inputs import LandmarkInput
from preprocessing.samples import write_video
from preprocessing.settings import Settings, TrackingSettings

REPEATS = 3
SECONDS, FPS = 10, 30
SAMPLED_S, ALL_S, MEMORY_MB = 8.0, 12.0, 2560.0
PUBLISHED_MS = 195.0 + 1.65
"""LRNet's published pipeline for each frame where the baselines were taken: landmarks by FAN, and calibration."""
TARGET_TIMES = 8.0


@contextmanager
def _watched() -> Iterator[list[float]]:
    """Megabytes of this process and its children, looked at ten times a second."""
    found, ended = [0.0], threading.Event()
    own = psutil.Process()

    def look() -> None:
        while not ended.wait(0.1):
            total = 0.0
            for one in [own, *own.children(recursive=True)]:
                try:
                    total += one.memory_full_info().pss / 2**20
                except psutil.Error:
                    continue
            found.append(total)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def _analysed(path: Path, stages: LocalStages, names: list[str]) -> tuple[list[float], list[float], dict[str, float]]:
    settings = Settings(detectors=tuple(names), tracking=TrackingSettings(samples=32))
    walls, peaks, timings = [], [], dict[str, float]()
    for _ in range(REPEATS):
        with _watched() as memory:
            began = time.perf_counter()
            result = analyse_file(path, stages, settings).result
            walls.append(time.perf_counter() - began)
        peaks.append(max(memory))
        timings = result.timings
        answered = {name for face in result.faces for name, one in face.detectors.items() if one.status == "ok"}
        if answered != set(names):
            raise RuntimeError(f"of {', '.join(names)} there answered {', '.join(sorted(answered)) or 'none'}")
    return walls, peaks, timings


def _row(metric: str, values: list[float], unit: str, limit: float, **more: Any) -> dict[str, Any]:
    middle = statistics.median(values)
    return {
        "bench": "video", "metric": metric, "value": round(middle, 2), "unit": unit, "baseline": round(limit, 2),
        "ratio": round(middle / limit, 2), "n": len(values), "spread": round(max(values) - min(values), 2), **more,
    }  # fmt: skip


def _other_backend(
    path: Path, pictures: list[str], moving: list[str], few: list[float], whole: list[float]
) -> Iterator[dict[str, Any]]:
    """The same by ONNX Runtime, where it is installed; the baseline is PyTorch's time of this run."""
    if find_spec("onnxruntime") is None:
        return
    stages = LocalStages(load_available(), backend="onnx")
    for what, names, usual in (("32 frames", pictures, few), ("and all landmarks", [*pictures, *moving], whole)):
        walls, _, _ = _analysed(path, stages, names)
        yield _row(f"10 s of 720p30, {what}, ONNX Runtime", walls, "s", statistics.median(usual))


def run() -> list[dict[str, Any]]:
    """Rows for `unmask bench`."""
    yardstick = yardstick_ms()
    stages = LocalStages(load_available())
    moving = [name for name, info in stages.infos().items() if isinstance(info.input, LandmarkInput)]
    pictures = [name for name in stages.infos() if name not in moving]
    with tempfile.TemporaryDirectory() as folder:
        path = write_video(Path(folder) / "clip.mp4", moving_720p(SECONDS, FPS), fps=FPS)
        few, few_mb, _ = _analysed(path, stages, pictures)
        whole, whole_mb, parts = _analysed(path, stages, [*pictures, *moving])
        alone, _, _ = _analysed(path, stages, moving)
        faster = list(_other_backend(path, pictures, moving, few, whole))
    frame = [spent / (SECONDS * FPS) * 1e3 for spent in alone]
    split = {name: round(spent, 2) for name, spent in parts.items()}
    told = "10 s of 720p30"
    return [
        *faster,
        _row(f"{told}, 32 frames ({', '.join(pictures)})", few, "s", scaled(SAMPLED_S, yardstick)),
        _row(f"{told}, and all landmarks ({', '.join(moving)})", whole, "s", scaled(ALL_S, yardstick), parts=split),
        _row(f"{told}, memory", [max(a, b) for a, b in zip(few_mb, whole_mb, strict=True)], "MB", MEMORY_MB),
        _row("LRNet alone, each frame on two cores", frame, "ms", scaled(PUBLISHED_MS / TARGET_TIMES, yardstick)),
    ]


if __name__ == "__main__":
    for row in run():
        print(json.dumps(row))
