"""Ways to run the shipped detectors of pictures on a CPU core: what each costs, and by how much it moves the logit.

    python -m benchmarks.backends

PyTorch as an analysis uses it is the baseline; beside it, in the same run, ONNX Runtime as `--backend onnx` takes it
(extra `onnx`), and bfloat16. What is not at hand is named and left out.
"""

from __future__ import annotations

import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.yardstick import yardstick_ms
from detectors.predict import BATCH
from detectors.store import LoadedDetector, load_available
from preprocessing.inputs import FaceInput

REPEATS, WARM_UP = 9, 3
Run = Callable[[Tensor], Tensor]
"""A prepared batch to logits."""


def _torch(loaded: LoadedDetector) -> Run:
    return lambda batch: loaded.detector(batch).logit


def _bfloat16(loaded: LoadedDetector) -> Run:
    network = copy.deepcopy(loaded.detector).bfloat16()
    return lambda batch: network(batch.bfloat16()).logit.float()


def _onnx(loaded: LoadedDetector) -> Run:
    from detectors.backends import on_onnx

    moved = on_onnx(loaded)
    return lambda batch: moved.run(batch).logit


WAYS: dict[str, Callable[[LoadedDetector], Run]] = {"ONNX Runtime": _onnx, "bfloat16": _bfloat16}


def _timed(run: Run, batch: Tensor) -> tuple[list[float], Tensor]:
    times = []
    with torch.inference_mode():
        for _ in range(WARM_UP + REPEATS):
            began = time.perf_counter()
            logits = run(batch)
            times.append((time.perf_counter() - began) * 1e3)
    return times[WARM_UP:], logits


def _rows(count: int, detectors: dict[str, LoadedDetector]) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(0)
    batches = {}
    for name, loaded in detectors.items():
        side = loaded.detector.input.size  # type: ignore[union-attr]
        batches[name] = loaded.detector.prepare(rng.integers(0, 256, (count, side, side, 3), np.uint8))
    known = {name: _timed(_torch(loaded), batches[name]) for name, loaded in detectors.items()}
    for way, make in WAYS.items():
        spent, usual, moved, missing = 0.0, 0.0, 0.0, []
        for name, loaded in detectors.items():
            try:
                times, logits = _timed(make(loaded), batches[name])
            except Exception as error:  # a library or a compiler that is not there, an operation it has not
                missing.append(f"{name}: {type(error).__name__}")
                continue
            spent += statistics.median(times)
            usual += statistics.median(known[name][0])
            moved = max(moved, float((logits - known[name][1]).abs().max()))
        told = {"missing": missing} if missing else {}
        yield {
            "bench": "backends", "metric": f"{way}, {count} crops, {len(detectors) - len(missing)} detectors",
            "value": round(spent, 1), "unit": "ms", "baseline": round(usual, 1),
            "ratio": round(spent / usual, 2) if usual else None, "logit moved": round(moved, 6), "n": REPEATS, **told,
        }  # fmt: skip


def run() -> list[dict[str, Any]]:
    """Rows for `unmask bench`: on one core, all detectors of pictures one after the other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        detectors = {n: one for n, one in load_available().items() if isinstance(one.detector.input, FaceInput)}
        yard = {"bench": "backends", "metric": "yardstick", "value": round(yardstick_ms(), 1), "unit": "ms", "n": 1}
        return [yard, *(row for count in (1, BATCH) for row in _rows(count, detectors))]
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    for row in run():
        print(json.dumps(row))
