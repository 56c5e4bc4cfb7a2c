"""Every detector in both profiles: one sample alone, and samples a second in a batch, as an analysis runs them.

    python -m benchmarks.detectors [--device cpu|cuda]

On the CPU by one thread in float32; on a GPU in bfloat16 and in large batches, beside the least time that its
arithmetic and its traffic allow (benchmarks/train_gpu.py says how that is counted). Weights are untrained: they cost
the same. A compact detector of pictures has 250 ms for one crop together with the others, one of clips 1.5 s for one
clip, on one core.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.yardstick import scaled, yardstick_ms
from detectors import registry
from detectors.backbone import fold_norms
from detectors.base import Detector, Profile
from preprocessing.inputs import ClipInput, FaceInput

REPEATS, WARM_UP, BATCH = 5, 2, 8
SLOW_MS = 2000.0
"""A sample that takes longer is measured twice, and not in a batch: made for a GPU."""
GPU_BATCH = 256
"""Crops; of clips so many fewer as a clip has frames."""
PICTURES_MS, CLIP_MS = 250.0, 1500.0
ENSEMBLE_RATE, LAA_NET_RATE = 20_000.0, 2_500.0
"""Crops a second on an H200 class card."""


def samples_of(detector: Detector, count: int) -> NDArray[Any]:
    """Noise in the form of the detector's input; a forward pass costs the same whatever it sees."""
    rng = np.random.default_rng(0)
    spec = detector.input
    if isinstance(spec, FaceInput):
        return rng.integers(0, 256, (count, spec.size, spec.size, 3), np.uint8)
    if isinstance(spec, ClipInput):
        return rng.integers(0, 256, (count, spec.length, spec.face.size, spec.face.size, 3), np.uint8)
    return rng.normal(0, 0.1, (count, spec.length, 136)).astype(np.float32)


def what(detector: Detector) -> str:
    """What one sample is."""
    spec = detector.input
    if isinstance(spec, FaceInput):
        return "crop"
    return "clip" if isinstance(spec, ClipInput) else "sequence"


def timed_ms(detector: Detector, count: int) -> list[float]:
    """Milliseconds of preparing and scoring `count` samples, several times."""
    samples = samples_of(detector, count)
    times: list[float] = []
    with torch.inference_mode():
        while len(times) < WARM_UP + REPEATS:
            began = time.perf_counter()
            detector(detector.prepare(samples))
            times.append((time.perf_counter() - began) * 1e3)
            if len(times) > WARM_UP and min(times) > SLOW_MS:
                return times[1:]
    return times[WARM_UP:]


def _row(metric: str, values: list[float], unit: str, limit: float | None = None, **more: Any) -> dict[str, Any]:
    middle = statistics.median(values)
    row: dict[str, Any] = {"bench": "detectors", "metric": metric, "value": round(middle, 2), "unit": unit, **more}
    if limit is not None:
        row |= {"baseline": round(limit, 1), "ratio": round(middle / limit, 2)}
    return row | {"n": len(values), "spread": round(max(values) - min(values), 2)}


def _cases() -> Iterator[tuple[str, Profile, Detector]]:
    for name in registry.names():
        profiles: tuple[Profile, ...] = ("compact", "paper")
        for profile in profiles:
            torch.manual_seed(0)
            yield name, profile, registry.create(name, profile).eval()


def run() -> list[dict[str, Any]]:
    """Rows for `unmask bench`: on one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _on_a_core()
    finally:
        torch.set_num_threads(threads)


def _on_a_core() -> list[dict[str, Any]]:
    rows, pictures = [], [0.0] * REPEATS
    yardstick = yardstick_ms()
    for name, profile, detector in _cases():
        fold_norms(detector)  # as weights are loaded
        kind = what(detector)
        alone = timed_ms(detector, 1)
        limit = scaled(CLIP_MS, yardstick) if kind == "clip" and profile == "compact" else None
        rows.append(_row(f"{name}-{profile}, one {kind}", alone, "ms", limit))
        if min(alone) < SLOW_MS:
            rates = [BATCH / ms * 1e3 for ms in timed_ms(detector, BATCH)]
            rows.append(_row(f"{name}-{profile}, {BATCH} at once", rates, f"{kind}s/s"))
        if kind == "crop" and profile == "compact":
            pictures = [a + b for a, b in zip(pictures, alone, strict=True)]
    rows.append(_row("all compact detectors of pictures, one crop", pictures, "ms", scaled(PICTURES_MS, yardstick)))
    return rows


def on_gpu(name: str = "cuda") -> list[dict[str, Any]]:
    """Rows in bfloat16, of which the share of the roofline; one row that says so where there is no GPU."""
    from benchmarks.train_gpu import MISSING, Device, Roofline, there

    if name.startswith("cuda") and not there():
        return [MISSING | {"bench": "detectors"}]
    device = Device.measured(name)
    rows, seconds = [], 0.0
    for method, profile, made in _cases():
        detector = made.to(name, torch.bfloat16)
        for parameter in detector.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        spec = detector.input
        count = max(GPU_BATCH // (spec.length if isinstance(spec, ClipInput) else 1), 1)
        batch = detector.prepare(torch.from_numpy(samples_of(detector, count)).to(name))
        with torch.inference_mode():
            times = []
            for _ in range(WARM_UP + REPEATS):
                _settled(name)
                began = time.perf_counter()
                detector(batch)
                _settled(name)
                times.append(time.perf_counter() - began)
            with Roofline(device) as bound:
                detector(batch)
        rates = [count / spent for spent in times[WARM_UP:]]
        limit = LAA_NET_RATE if (method, profile) == ("laa_net", "paper") else None
        title = f"{method}-{profile}, {count} at once in bfloat16 on {device.name}"
        rows.append(_row(title, rates, f"{what(detector)}s/s", limit))
        shares = [bound.seconds / spent for spent in times[WARM_UP:]]
        rows.append(_row(f"{title}: of the roofline", shares, "of 1"))
        if what(detector) == "crop" and profile == "compact":
            seconds += 1 / statistics.median(rates)
    return [*rows, _row(f"all compact detectors of pictures on {device.name}", [1 / seconds], "crops/s", ENSEMBLE_RATE)]


def _settled(name: str) -> None:
    if name.startswith("cuda"):
        torch.cuda.synchronize(name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    for row in run() if given.device == "cpu" else on_gpu(given.device):
        print(json.dumps(row))
