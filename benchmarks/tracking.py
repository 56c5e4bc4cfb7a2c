"""Faces, tracks, landmarks and crops of a synthetic 720p clip on one core, without decoding.

    python -m benchmarks.tracking
    python -m benchmarks.tracking --boxes FOLDER

The second measures instead how the boxes of MTCNN and the CNN lie to those of HOG on the portraits of a folder: the
constants in preprocessing/faces. Times are processor times, which a busy machine distorts less than wall times.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray

from benchmarks.yardstick import scaled, yardstick_ms
from preprocessing.crops import face_input
from preprocessing.faces import create_face_detector
from preprocessing.faces.base import boxes_of
from preprocessing.faces.dlib_detectors import CnnDetector, HogDetector
from preprocessing.faces.mtcnn import MtcnnDetector
from preprocessing.inputs import FaceInput
from preprocessing.landmarks import create_landmark_predictor
from preprocessing.quality import quality_flags
from preprocessing.settings import TrackingSettings
from preprocessing.tracking import FaceTracker
from preprocessing.types import CropChunk, Frame, Image

FRAMES = 120
REPEATS = 3
LIMIT_MS = 25.0
"""Face box and 68 landmarks of a 720p frame on one core of the reference machine."""


def clip(frames: int, face: bool = True) -> list[Frame]:
    """A 1280x720 clip: a portrait (scikit-image's astronaut) whose head, some 170 px wide, sways; or a room without."""
    source = skimage.data.astronaut() if face else skimage.data.coffee()
    made = []
    for index in range(frames):
        phase = 2 * math.pi * index / 50
        zoom = 2.0 + 0.1 * math.sin(phase / 2)
        turned = cv2.getRotationMatrix2D((222.0, 126.0), 4 * math.sin(phase), zoom)
        turned[:, 2] += np.array([640 - 222 + 40 * math.sin(phase), 330 - 126 + 15 * math.cos(phase)])
        image = cv2.warpAffine(source, turned, (1280, 720), borderMode=cv2.BORDER_REPLICATE)
        made.append(Frame(index, index / 25, image))
    return made


def _track(frames: list[Frame]) -> tuple[list[CropChunk], float]:
    tracker = FaceTracker(TrackingSettings())
    start = time.process_time()
    chunks = list(tracker.chunks(frames))
    return chunks, (time.process_time() - start) / len(frames) * 1e3


def _row(metric: str, values: list[float], unit: str = "ms/frame") -> dict[str, Any]:
    value = float(np.median(values))
    row = {"bench": "tracking", "metric": metric, "value": value, "unit": unit, "n": len(values)}
    row["spread"] = float(np.ptp(values))
    return row


def run() -> list[dict[str, Any]]:
    """One row per figure: milliseconds per 720p frame by stage; `spread` is largest minus smallest of `n` runs."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    yardsticks, ratios = [yardstick_ms()], []
    frames, empty = clip(FRAMES), clip(FRAMES, face=False)
    predictor = create_landmark_predictor()
    spec = FaceInput(224)
    create_face_detector("auto", False).detect(frames[0].image)
    stages: dict[str, list[float]] = {"track": [], "landmarks": [], "both": [], "quality": [], "crop": [], "empty": []}
    for _ in range(REPEATS):
        chunks, tracking = _track(frames)
        faces = [face for chunk in chunks for face in chunk.faces]
        if len(faces) != FRAMES or len({face.track for face in faces}) != 1:
            raise RuntimeError(f"the clip shows one face in {FRAMES} frames, the tracker found {len(faces)}")
        start = time.process_time()
        points = []
        for face in faces:
            shift = np.array(face.offset, np.float32)
            points.append(predictor.predict(face.image, (face.box - np.tile(shift, 2))[None])[0] + shift)
        landmarks = (time.process_time() - start) / len(faces) * 1e3
        yardsticks.append(yardstick_ms())
        ratios.append((tracking + landmarks) / scaled(LIMIT_MS, yardsticks[-1]))
        start = time.process_time()
        for face, found in zip(faces, points, strict=True):
            quality_flags(face, found, (1280, 720))
        quality = (time.process_time() - start) / len(faces) * 1e3
        start = time.process_time()
        for face, found in zip(faces, points, strict=True):
            face_input(face.image, face.offset, found, spec)
        crop = (time.process_time() - start) / len(faces) * 1e3
        nothing, without = _track(empty)
        if any(chunk.faces for chunk in nothing):
            raise RuntimeError("the clip without a face shows one to the tracker")
        for name, value in zip(
            stages, (tracking, landmarks, tracking + landmarks, quality, crop, without), strict=True
        ):
            stages[name].append(value)
    start = time.process_time()
    create_face_detector("auto", True).detect(frames[0].image)
    still = (time.process_time() - start) * 1e3
    return [
        _row("yardstick", yardsticks, "ms"),
        _row("face boxes, tracks and margin crops", stages["track"]),
        _row("68 landmarks of one face", stages["landmarks"]),
        _row("face box and 68 landmarks", stages["both"])
        | {
            "baseline": scaled(LIMIT_MS, float(np.median(yardsticks))),
            "ratio": float(np.median(ratios)),
        },
        _row("quality flags of one face", stages["quality"]),
        _row("224-px face crop", stages["crop"]),
        _row("clip without a face", stages["empty"]),
        _row("search of one 720p still", [still], "ms"),
    ]


def _single(detector: HogDetector | CnnDetector | MtcnnDetector, image: Image) -> NDArray[np.float64] | None:
    found = detector.detect(image)
    return boxes_of(found)[0].astype(np.float64) if len(found) == 1 else None


def _pairs(folder: Path, other: CnnDetector | MtcnnDetector, count: int) -> Iterator[NDArray[np.float64]]:
    hog = HogDetector(640, 2.0)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    for path in paths[:: max(1, len(paths) // count)]:
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        for mirrored in (False, True):
            picture = np.ascontiguousarray(image[:, ::-1]) if mirrored else image
            first, second = _single(hog, picture), _single(other, picture)
            if first is not None and second is not None:
                yield np.stack([first, second])


def compare_boxes(folder: Path, count: int) -> list[dict[str, Any]]:
    """How mapped boxes of MTCNN and the CNN lie to HOG's on `count` portraits and their mirror images: the median ratio
    of sides (1: the constants hold), and the median shifts of the centres in sides (0: they hold), with their spread
    (half the distance of the 16th and 84th percentiles)."""
    rows = []
    others: dict[str, CnnDetector | MtcnnDetector] = {
        "mtcnn": MtcnnDetector(640, 2.0, 30),
        "cnn": CnnDetector(400, 2.0),
    }
    for name, other in others.items():
        pairs = np.array(list(_pairs(folder, other, count if name == "mtcnn" else count // 4)))
        hog, found = pairs[:, 0], pairs[:, 1]
        side, centre = hog[:, 2] - hog[:, 0], (hog[:, :2] + hog[:, 2:]) / 2
        shift = (centre - (found[:, :2] + found[:, 2:]) / 2) / side[:, None]
        for metric, values in (
            ("side, HOG's over mapped", side / (found[:, 2] - found[:, 0])),
            ("centre, HOG's right of mapped", shift[:, 0]),
            ("centre, HOG's below mapped", shift[:, 1]),
        ):
            low, middle, high = np.percentile(values, [16, 50, 84])
            rows.append({"bench": "boxes", "metric": f"{name}: {metric}", "value": float(middle), "unit": "box sides"})
            rows[-1] |= {"n": len(values), "spread": float(high - low) / 2}
    return rows


def main() -> None:
    """Prints the rows as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boxes", type=Path, metavar="FOLDER", help="compare the detectors' boxes on its portraits")
    parser.add_argument("--count", type=int, default=100, help="portraits to compare on")
    arguments = parser.parse_args()
    for row in compare_boxes(arguments.boxes, arguments.count) if arguments.boxes else run():
        print(json.dumps(row))


if __name__ == "__main__":
    main()
