"""Self-blended pairs a second from batches in torch, on the GPU where there is one and on the CPU.

    python -m benchmarks.synth_gpu

A pair is a real and a fake, 256 x 256, from the faces of `benchmarks.synth` at that size, which lie on the device
before the clock starts; landmarks lie on the host. On a CPU the figures are processor time of one thread, `baseline` is
`sbi_item` timed beside it. On a GPU they are wall time between two synchronisations, and there is no baseline.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.synth import faces, sized
from benchmarks.yardstick import yardstick_ms
from preprocessing.blending import Face, sample_rng, sbi_item
from preprocessing.blending.gpu import _hulls, sbi_batch
from preprocessing.blending.gpu_draw import BatchDraw, batch_generator
from preprocessing.blending.gpu_jpeg import jpeg_batch
from preprocessing.blending.sbi import SbiSettings

SIDE = 256
BLOCKS = 7
CPU_BATCHES, GPU_BATCHES = (1, 16), (16, 64, 256)
REPEATS = {"cpu": 3, "cuda": 20}
"""Batches a block."""


def _seconds(make: Callable[[int], object], device: torch.device) -> list[float]:
    """Seconds a call, one for each of BLOCKS blocks, after a warm-up."""
    repeats = REPEATS[device.type]
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    for number in range(3):
        make(number)
    times = []
    for block in range(BLOCKS):
        _settled(device)
        start = clock()
        for number in range(repeats):
            make(block * repeats + number)
        _settled(device)
        times.append((clock() - start) / repeats)
    return times


def _settled(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _row(metric: str, rates: list[float], unit: str, baseline: list[float] | None = None) -> dict[str, Any]:
    value = float(np.median(rates))
    row: dict[str, Any] = {"bench": "synth_gpu", "metric": metric, "value": round(value, 2), "unit": unit}
    if baseline is not None:
        beside = float(np.median(baseline))
        row |= {"baseline": round(beside, 2), "ratio": round(value / beside, 3)}
    return row | {"n": len(rates), "spread": round(float(np.ptp(rates)), 2)}


def _batch(found: list[Face], count: int, device: torch.device) -> tuple[Tensor, NDArray[np.float32]]:
    chosen = [found[index % len(found)] for index in range(count)]
    images = torch.from_numpy(np.stack([face.image for face in chosen])).permute(0, 3, 1, 2).contiguous()
    return images.to(device), np.stack([face.points for face in chosen])


def _device_rows(found: list[Face], device: torch.device, baseline: list[float] | None) -> list[dict[str, Any]]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU tensors, one thread"
    rows = []
    for count in GPU_BATCHES if device.type == "cuda" else CPU_BATCHES:
        images, points = _batch(found, count, device)

        def pairs(step: int, images: Tensor = images, points: NDArray[np.float32] = points) -> object:
            return sbi_batch(images, points, batch_generator(0, 0, step), size=SIDE)

        def compressed(step: int, images: Tensor = images) -> object:
            return jpeg_batch(images.float(), torch.full((len(images),), 40 + step % 60, device=images.device))

        rates = [count / seconds for seconds in _seconds(pairs, device)]
        rows.append(_row(f"{name}: sbi_batch of {count}, 256", rates, "pairs/s", baseline))
        rates = [count / seconds for seconds in _seconds(compressed, device)]
        rows.append(_row(f"{name}: JPEG of {count}, 256", rates, "pictures/s"))
    if device.type == "cuda":
        rows.append(_row(f"{name}: peak memory", [torch.cuda.max_memory_allocated(device) / 2**20], "MiB"))
    return rows


def _hull_times(found: list[Face]) -> list[float]:
    """Milliseconds a pair that the host spends on outlines."""
    _, points = _batch(found, 64, torch.device("cpu"))
    draw = BatchDraw.draw((SIDE, SIDE), 64, 81, batch_generator(0, 0, 0), SbiSettings(), torch.device("cpu"))
    return [s / 64 * 1e3 for s in _seconds(lambda _: _hulls(points, draw, (SIDE, SIDE)), torch.device("cpu"))]


def run() -> list[dict[str, Any]]:
    """Rows {bench, metric, value, unit, baseline?, ratio?, n, spread}; without a GPU a row says that its figures are
    missing."""
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        return _run()
    finally:
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])


def _run() -> list[dict[str, Any]]:
    found = [sized(face, SIDE) for face in faces()]

    def item(number: int) -> object:
        face = found[number % len(found)]
        return [sbi_item(face.image, face.points, sample_rng(0, number, k), size=SIDE) for k in range(16)]

    cpu = torch.device("cpu")
    alone = [16 / seconds for seconds in _seconds(item, cpu)]
    rows = [_row("yardstick", [yardstick_ms()], "ms"), _row("sbi_item, 256", alone, "pairs/s")]
    rows += [*_device_rows(found, cpu, alone), _row("outlines on the host", _hull_times(found), "ms a pair")]
    if torch.cuda.is_available():
        return rows + _device_rows(found, torch.device("cuda"), None)
    missing = {"metric": "on a GPU", "value": None, "unit": "missing: torch.cuda is not available on this machine"}
    return [*rows, {"bench": "synth_gpu", **missing, "n": 0}]


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
