"""Landmark calibration a frame, beside the two pyramidal Lucas-Kanade calls that it contains, on one thread.

    python -m benchmarks.calibration

Two scenes are synthetic (a texture that drifts, landmarks with detector jitter): a face of 107 pixels, and one so large
that its square shrinks to 400 pixels by area averaging, which costs OpenCV more than the flow's pyramids. The third is
the published example, where it lies beside the checkout. Both sides alternate in blocks of one video, so that a busy
machine slows both alike; figures are medians over the blocks.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.calibration import LK_CRITERIA, LK_LEVELS, LK_WINDOW, Calibrator, face_size
from preprocessing.landmark_files import read_openface_csv

FRAMES = 60
REPEATS = 15
REFERENCE_MS = 2.3
"""LRNet's own calibration of the published example on one thread (../shared/specs/lrnet.md, section 10)."""
YARDSTICK_MS = 10.2
"""Of the machine that REFERENCE_MS was taken on."""

Scene = tuple[list[NDArray[np.uint8]], NDArray[np.float64]]


def published_example() -> Scene | None:
    """The first FRAMES pictures and landmarks of the published calibration example; None where it is not there."""
    shared = Path(__file__).resolve().parents[2] / "shared"
    csv = shared / "golden/lrnet/calibrator_example/000_003.csv"
    media = shared / "data/videos/dev/lrnet_demo/fake/000_003.mp4"
    if not csv.is_file() or not media.is_file():
        return None
    video = cv2.VideoCapture(str(media))
    images = [cv2.cvtColor(video.read()[1], cv2.COLOR_BGR2RGB) for _ in range(FRAMES)]
    return images, read_openface_csv(csv)[:FRAMES]


def synthetic(size: int) -> Scene:
    """FRAMES pictures of 640 x 480, a textured scene that drifts, and landmarks (FRAMES, 68, 2) of a face of `size`."""
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 256, (480 + FRAMES, 640 + FRAMES, 3), dtype=np.uint8), (0, 0), 3)
    wide = cv2.normalize(wide, None, 0, 255, cv2.NORM_MINMAX)
    images = [np.ascontiguousarray(wide[n // 2 : n // 2 + 480, n : n + 640]) for n in range(FRAMES)]
    face = rng.uniform(-0.5, 0.5, (68, 2)) * size + (340, 255)
    drift = np.arange(FRAMES)[:, None, None] * np.array([-1, -0.5])
    return images, face + drift + rng.normal(0, 0.7, (FRAMES, 68, 2))


class _Recorder(Calibrator):
    """Keeps what the two flow calls of each step are given, so that the bare calls can be timed on the same data."""

    def __init__(self, size: int, frame_size: tuple[int, int]) -> None:
        super().__init__(size, frame_size)
        self.calls: list[tuple[Any, ...]] = []

    def _merge(self, crop: Any, next_crop: Any, now: Any, before: Any, detected: Any) -> Any:
        self.calls.append((crop, next_crop, now.astype(np.float32)[:, None], detected.astype(np.float32)[:, None]))
        return super()._merge(crop, next_crop, now, before, detected)


def _calibration_ms(size: int, images: list[NDArray[np.uint8]], landmarks: NDArray[np.float64]) -> float:
    calibrator = Calibrator(size, (640, 480))
    calibrator.step(images[0], landmarks[0])
    start = time.perf_counter()
    for image, points in zip(images[1:], landmarks[1:], strict=True):
        calibrator.step(image, points)
    return (time.perf_counter() - start) / (FRAMES - 1) * 1000


def _flow_ms(calls: list[tuple[Any, ...]]) -> float:
    guesses = [(detected.copy(), now.copy()) for _, _, now, detected in calls]
    start = time.perf_counter()
    for (crop, next_crop, now, _), (forward_guess, backward_guess) in zip(calls, guesses, strict=True):
        flow, _, _ = cv2.calcOpticalFlowPyrLK(
            crop, next_crop, now, forward_guess, winSize=LK_WINDOW, maxLevel=LK_LEVELS,
            criteria=LK_CRITERIA, flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        )  # fmt: skip
        cv2.calcOpticalFlowPyrLK(
            next_crop, crop, flow, backward_guess, winSize=LK_WINDOW, maxLevel=LK_LEVELS,
            criteria=LK_CRITERIA, flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        )  # fmt: skip
    return (time.perf_counter() - start) / len(calls) * 1000


def _yardstick_ms() -> float:
    from scipy.ndimage import gaussian_filter

    fields = np.random.default_rng(0).random((2, 380, 380))
    start = time.perf_counter()
    for field in fields:
        gaussian_filter(field, 7)
    return (time.perf_counter() - start) * 1000


def _row(metric: str, values: list[float], unit: str, **more: float) -> dict[str, Any]:
    low, high = np.percentile(values, [25, 75])
    figures = {"value": round(float(np.median(values)), 4), "unit": unit, **more}
    return {"bench": "calibration", "metric": metric, **figures, "n": len(values), "spread": round(high - low, 4)}


def run() -> list[dict[str, Any]]:
    """Rows {bench, metric, value, unit, baseline?, ratio?, n, spread}; `spread` is the interquartile range."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        rows = []
        scenes = {"face of 107 px": synthetic(107), "face of 400 px": synthetic(400)}
        example = published_example()
        if example is not None:
            scenes["published example"] = example
        for name, (images, landmarks) in scenes.items():
            fixed = face_size(landmarks)
            recorder = _Recorder(fixed, (640, 480))
            for image, points in zip(images, landmarks, strict=True):
                recorder.step(image, points)
            whole, flow, yard = [], [], []
            for _ in range(REPEATS):
                flow.append(_flow_ms(recorder.calls))
                whole.append(_calibration_ms(fixed, images, landmarks))
                yard.append(_yardstick_ms())
            ratios = [a / b for a, b in zip(whole, flow, strict=True)]
            rows.append(_row(f"two LK calls, {name}", flow, "ms/frame"))
            more = {}
            if name == "published example":
                scaled = REFERENCE_MS * float(np.median(yard)) / YARDSTICK_MS
                more = {"baseline": round(scaled, 4), "ratio": round(float(np.median(whole)) / scaled, 4)}
            rows.append(_row(f"calibration, {name}", whole, "ms/frame", **more))
            rows.append(_row(f"calibration over its two LK calls, {name}", ratios, "ratio", baseline=1.25))
        return rows
    finally:
        cv2.setNumThreads(threads)


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
