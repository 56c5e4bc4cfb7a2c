"""Pseudo-fakes a second on one core, beside the published generators.

    python -m benchmarks.synth

Faces are photographs from ../shared where it lies beside the checkout, else scikit-image's portrait and its mirror
image; both are cut to the published framing and size. Pictures are in memory: decoding is not measured (the published
BI figure holds 6 ms of it in 135). Figures are processor time; baselines were measured with the published code on a
machine whose yardstick was 10.2 ms, and are scaled by the yardstick timed in the same run.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data

from benchmarks.yardstick import scaled, yardstick_ms
from preprocessing.blending import (
    Face,
    PartnerIndex,
    bi,
    bi_item,
    fwa_item,
    laa_item,
    sample_rng,
    sbi,
    sbi_item,
    sbi_reference,
)
from preprocessing.faces.dlib_detectors import HogDetector
from preprocessing.landmarks import create_landmark_predictor, to_81
from preprocessing.types import Image

SIDE = 317
FACES = 8
BLOCKS = 7
BLOCK = 40
FRAMES, VIDEOS = 54_000, 720
RANKED = 512
"""Frames of the list that get partners here; all FRAMES would take FRAMES times the milliseconds reported."""
CANDIDATES = 5_000
"""Random frames that the published search looks through."""

PUBLISHED = {
    "SBI core, 380": 1000 / 29.1,
    "SBI item, 256": 1000 / 45.3,
    "SBI item, 317": 1000 / 32.8,
    "SBI item, 380": 1000 / 25.6,
    "LAA-Net item with targets, 256 to 384": 1000 / 35.9,
    "BI blended sample, 317": 1000 / 7.4,
}
"""Milliseconds of the published code (../shared/golden/blending_baseline.md, set P)."""
WANTED = {"SBI item, 380": 130.0, "LAA-Net item with targets, 256 to 384": 150.0, "BI blended sample, 317": 200.0}
"""Samples a second on the machine of the baselines."""


def faces() -> list[Face]:
    """FACES crops of 317 x 317, the face's box enlarged twice, with 81 landmarks (the forehead's extrapolated)."""
    folder = Path(__file__).resolve().parents[2] / "shared/data/real_faces/train/ffhq1024_realorfake"
    if folder.is_dir():
        paths = sorted(folder.glob("*.jpg"))[: 3 * FACES]
        pictures = (cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths)
    else:
        portrait = skimage.data.astronaut()
        pictures = (np.ascontiguousarray(portrait[:, ::step]) for step in (1, -1))
    found = (crop for crop in map(_crop, pictures) if crop is not None)
    return list(itertools.islice(found, FACES))


def _crop(picture: Image) -> Face | None:
    boxes = HogDetector(480, 2.0).detect(picture)
    if not boxes:
        return None
    box = max((found.box for found in boxes), key=lambda b: float(b[2] - b[0]))
    half = float(max(box[2] - box[0], box[3] - box[1]))
    left, top = (max(int(middle - half), 0) for middle in ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
    side = int(min(2 * half, picture.shape[1] - left, picture.shape[0] - top))
    crop = cv2.resize(picture[top : top + side, left : left + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    moved = (box - np.array([left, top, left, top])) * SIDE / side
    return Face(crop, to_81(create_landmark_predictor().predict(crop, moved[None])[:, :68])[0])


def sized(face: Face, side: int) -> Face:
    """The same face at side x side, as the baselines resized theirs."""
    image = cv2.resize(face.image, (side, side), interpolation=cv2.INTER_LINEAR)
    return Face(image, face.points * np.float32(side / face.image.shape[0]))


def _times(make: Callable[[int], object]) -> list[float]:
    """Processor milliseconds a sample, one for each of BLOCKS blocks, after a warm-up."""
    for index in range(5):
        make(index)
    times = []
    for block in range(BLOCKS):
        start = time.process_time()
        for index in range(BLOCK):
            make(block * BLOCK + index)
        times.append((time.process_time() - start) / BLOCK * 1e3)
    return times


def _rows(metric: str, times: list[float], yardstick: float) -> list[dict[str, Any]]:
    middle = float(np.median(times))
    rates = [1000 / value for value in times]
    row: dict[str, Any] = {"bench": "synth", "metric": metric, "value": round(1000 / middle, 1), "unit": "samples/s"}
    if metric in PUBLISHED:
        published = scaled(PUBLISHED[metric], yardstick)
        row |= {"baseline": round(1000 / published, 1), "ratio": round(published / middle, 2)}
    row |= {"n": len(times) * BLOCK, "spread": round(float(np.ptp(rates)), 1)}
    rows = [row]
    if metric in WANTED:
        wanted = 1000 / scaled(1000 / WANTED[metric], yardstick)
        met = {"value": round(1000 / middle / wanted, 2), "unit": "ratio", "baseline": round(wanted, 1)}
        rows.append({"bench": "synth", "metric": f"{metric}, over its target", **met, "n": len(times)})
    return rows


def _partners(found: list[Face]) -> tuple[PartnerIndex, list[float]]:
    """Partners for RANKED of FRAMES frames (landmarks as those found, moved by person and by frame), and the processor
    milliseconds a frame that finding them took."""
    rng = np.random.default_rng(0)
    videos = rng.integers(0, VIDEOS, FRAMES)
    shapes = np.stack([face.points[:68] for face in found]).astype(np.float32)
    people = rng.normal(0, 3, (VIDEOS, 68, 2)).astype(np.float32)
    points = shapes[videos % len(found)] + people[videos] + rng.normal(0, 2, (FRAMES, 68, 2)).astype(np.float32)
    times = []
    for _ in range(3):
        start = time.process_time()
        index = PartnerIndex(points, videos, rows=np.arange(RANKED))
        times.append((time.process_time() - start) / RANKED * 1e3)
    return index, times


def run() -> list[dict[str, Any]]:
    """Rows {bench, metric, value, unit, baseline?, ratio?, n, spread}; `spread`: largest minus smallest block.

    A sample is a real and a fake. `baseline` is the published code's rate scaled to this machine, `ratio` ours over it.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return _run()
    finally:
        cv2.setNumThreads(threads)


def _run() -> list[dict[str, Any]]:
    found = faces()
    index, ranking = _partners(found)
    sides = {side: [sized(face, side) for face in found] for side in (256, SIDE, 380)}

    def pick(side: int, number: int) -> Face:
        return sides[side][number % len(found)]

    def core(number: int) -> object:
        face = pick(380, number)
        return sbi(face.image, face.points, sample_rng(0, 0, number))

    def published_order(number: int) -> object:
        face = pick(380, number)
        return sbi_reference(face.image, face.points, sample_rng(0, 0, number))

    def item(side: int) -> Callable[[int], object]:
        def make(number: int) -> object:
            face = pick(side, number)
            return sbi_item(face.image, face.points, sample_rng(0, 0, number))

        return make

    def floats(number: int) -> object:
        face = pick(380, number)
        pair = sbi_item(face.image, face.points, sample_rng(0, 0, number))
        return [np.ascontiguousarray(part.transpose(2, 0, 1)) * np.float32(1 / 255) for part in (pair.real, pair.fake)]

    def laa(number: int) -> object:
        face = pick(256, number)
        return laa_item(face.image, face.points, sample_rng(0, 0, number))

    def partner(number: int, rng: np.random.Generator) -> Face:
        return pick(SIDE, index.draw(number % RANKED, rng, CANDIDATES))

    def blended(number: int) -> object:
        face, rng = pick(SIDE, number), sample_rng(0, 0, number)
        return bi(face.image, face.points, rng, partner(number, rng))

    def datapoint(number: int) -> object:
        face, rng = pick(SIDE, number), sample_rng(0, 0, number)
        return bi_item(face.image, face.points, rng, partner(number, rng))

    def warped(number: int) -> object:
        face = pick(SIDE, number)
        return fwa_item(face.image, face.points, sample_rng(0, 0, number))

    makers: dict[str, Callable[[int], object]] = {
        "SBI core, 380": core,
        "SBI item, 256": item(256),
        "SBI item, 317": item(SIDE),
        "SBI item, 380": item(380),
        "SBI item, 380, as float32 CHW": floats,
        "LAA-Net item with targets, 256 to 384": laa,
        "BI blended sample, 317": blended,
        "BI item with resolution, JPEG, crop and flip": datapoint,
        "FWA item": warped,
        "SBI core in the published order, 380": published_order,
    }
    rows, yardsticks = [], []
    for metric, make in makers.items():
        yardsticks.append(yardstick_ms())
        rows += _rows(metric, _times(make), yardsticks[-1])
    rows.append(_plain("partners of one frame among 54,000", ranking, "ms"))
    return [_plain("yardstick", yardsticks, "ms"), *rows]


def _plain(metric: str, values: list[float], unit: str) -> dict[str, Any]:
    row = {"bench": "synth", "metric": metric, "value": round(float(np.median(values)), 2), "unit": unit}
    return row | {"n": len(values), "spread": round(float(np.ptp(values)), 2)}


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
