"""What one analysis costs: CPU seconds by stage, through the whole service, in the queue's database; operations.

    python -m benchmarks.costs benchmarks/costs.json      # measured here, for benchmarks.scaling

CPU seconds of all processes and threads, decoding included, so that they add up however many ran side by side. A
detector's are those of the thread that it runs in (torch has one); tracking, with decoding and landmarks, is the rest.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.service import Service, service

SECONDS = 4
REPEATS = 3
REPEATS_OF_AN_IMAGE = 9
ALONE = 12
"""Images one after another whose cost through the service is measured."""
JOBS = 200
ROOT = Path(__file__).resolve().parents[1]


def cpu_s() -> float:
    """CPU seconds of this process and all below it, ended ones included."""
    total = 0.0
    this = psutil.Process()
    for one in (this, *this.children(recursive=True)):
        try:
            total += sum(one.cpu_times()[:4])
        except psutil.Error:
            continue
    return total


class _Counted:
    """A step of detectors that keeps the CPU seconds of each."""

    def __init__(self, step: Callable[..., Any]) -> None:
        self._step = step
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, *given: Any) -> Any:
        began = time.thread_time()
        try:
            return self._step(name, *given)
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.thread_time() - began


def stages(path: Path, video_s: float) -> dict[str, Any]:
    """Median CPU seconds of tracking (with decoding and landmarks) and of each detector; the first is not counted."""
    from detectors.local import LocalStages, analyse_file
    from detectors.store import load_available

    here = LocalStages(load_available())
    counted = here._detect = _Counted(here._detect)  # type: ignore[assignment]
    analyse_file(path, here)
    rest, detectors = [], []
    for _ in range(REPEATS if video_s else REPEATS_OF_AN_IMAGE):
        counted.seconds, before = {}, cpu_s()
        analyse_file(path, here)
        detectors.append(dict(counted.seconds))
        rest.append(cpu_s() - before - sum(counted.seconds.values()))
    each = {name: float(np.median([one[name] for one in detectors])) for name in sorted(detectors[0])}
    return {"stages": {"tracking": float(np.median(rest))}, "detectors": each, "video_s": video_s}


def through_the_service(graph: Service) -> float:
    """CPU seconds of one image in all processes of the service, one after another."""
    for _ in range(5):
        graph.ended(graph.post().headers["location"])
    before = cpu_s() - _own()
    for _ in range(ALONE):
        graph.ended(graph.post().headers["location"])
    return (cpu_s() - _own() - before) / ALONE


def _own() -> float:
    return sum(psutil.Process().cpu_times()[:2])


def queue(place: str | Path) -> dict[str, float]:
    """Seconds at the database's client: to add a job, from there to its result, for a heartbeat of a running one."""
    from serve.storage import new_id
    from serve.store import Job, JobStore

    store = JobStore(place)
    began = time.perf_counter()
    for _ in range(JOBS):
        store.create(Job(new_id(), "clip.mp4", "{}", time.time()), 10**6)
    create_s = (time.perf_counter() - began) / JOBS
    began = time.perf_counter()
    for _ in range(JOBS):
        job = store.lease("a", 60, 3)
        assert job is not None
        store.finish(job.id, "a", json.dumps({"x": "y" * 5000}), "real", 0.1)
    run_s = (time.perf_counter() - began) / JOBS
    for _ in range(32):
        store.create(Job(new_id(), "clip.mp4", "{}", time.time()), 10**6)
    running = [job.id for job in iter(lambda: store.lease("b", 60, 3), None)]
    began = time.perf_counter()
    for number in range(20):
        store.beat("b", dict.fromkeys(running, ("tracking", number / 20)), 60)
    beat_s = (time.perf_counter() - began) / 20 / len(running)
    store.close()
    return {"create_s": create_s, "run_s": run_s, "beat_s": beat_s}


def operations() -> dict[str, float]:
    """In 10^9, a multiply-add counted as two: one video's even sample of one face through each paper-size detector."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from detectors.registry import create, entry, names
    from preprocessing.inputs import ClipInput, LandmarkInput
    from preprocessing.settings import TrackingSettings

    samples = TrackingSettings().samples
    found = {}
    for name in names():
        if not entry(name).cls.__module__.startswith("detectors.methods."):
            continue
        detector = create(name, "paper").eval()
        spec = detector.input
        if isinstance(spec, LandmarkInput):
            batch, times = np.zeros((1, spec.length, 136), np.float32), SECONDS * 25 / spec.length
        elif isinstance(spec, ClipInput):
            batch, times = (
                np.zeros((1, spec.length, spec.face.size, spec.face.size, 3), np.uint8),
                samples / spec.length,
            )
        else:
            batch, times = np.zeros((1, spec.size, spec.size, 3), np.uint8), float(samples)
        with torch.inference_mode(), FlopCounterMode(display=False) as counted:
            detector(detector.prepare(batch))
        found[name] = round(counted.get_total_flops() * times / 1e9, 2)
    return found


def measure() -> dict[str, Any]:
    """Everything that benchmarks.scaling reads."""
    import torch

    from benchmarks.overload import CLIENTS, capacity
    from preprocessing.media import keep_nursery
    from ui.samples import FOLDER

    sys.path.insert(0, str(ROOT / "tests"))
    sys.path.insert(0, str(ROOT / "tests" / "preprocessing"))
    from local_api import portrait_video
    from postgres_server import postgres

    torch.set_num_threads(1)
    keep_nursery()  # as the service does
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = portrait_video(folder / "clip.mp4", frames=25 * SECONDS, size=720)
        found: dict[str, Any] = {
            "video": stages(clip, SECONDS),
            "image": stages(FOLDER / "astronaut-real.jpg", 0),
            "gflop": operations(),
            "video_bytes": clip.stat().st_size,
            "sqlite": queue(folder / "jobs.sqlite3"),
        }
        with postgres() as address:
            found["postgresql"] = queue(address)
    with service() as graph:
        found["image_through_the_service"] = through_the_service(graph)
        found["capacity"] = {"clients": CLIENTS, "images_a_second": capacity(graph)}
    return found


def run(path: Path | None = None) -> list[dict[str, Any]]:
    """Rows {bench, metric, value, unit, baseline?, n}; `path` gets everything, as JSON."""
    found = measure()
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    rows = [
        {"metric": f"{which}: {name}", "value": round(seconds, 3), "unit": "CPU s", "n": REPEATS}
        for which in ("video", "image")
        for name, seconds in {**found[which]["stages"], **found[which]["detectors"]}.items()
    ]
    rows += [
        {"metric": "image through the service", "value": round(found["image_through_the_service"], 3), "unit": "CPU s",
         "n": ALONE},
        {"metric": "capacity for images", "value": round(found["capacity"]["images_a_second"], 2), "unit": "a second"},
    ]  # fmt: skip
    for place in ("sqlite", "postgresql"):
        rows += [
            {"metric": f"{place}: a job added", "value": round(found[place]["create_s"] * 1e3, 2), "unit": "ms",
             "n": JOBS},
            {"metric": f"{place}: leased and finished", "value": round(found[place]["run_s"] * 1e3, 2), "unit": "ms",
             "n": JOBS},
            {"metric": f"{place}: a heartbeat", "value": round(found[place]["beat_s"] * 1e3, 3), "unit": "ms"},
        ]  # fmt: skip
    return [{"bench": "costs", **row} for row in rows]


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]) if len(sys.argv) > 1 else None), indent=1))
