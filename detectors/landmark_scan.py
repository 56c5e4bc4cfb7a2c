"""A landmark file instead of a video: what the detectors that look at landmarks say of it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path

import numpy as np

from detectors.local import LocalStages
from detectors.pipeline import Progress, choose
from detectors.result import Analysis, DetectorScore, FaceResult, Notice
from detectors.scoring import DetectorInfo, Samples, answer, landmark_samples
from detectors.steps import TrackingSummary
from detectors.verdict import conclude
from preprocessing.inputs import LandmarkInput
from preprocessing.landmark_files import read_lrnet_txt
from preprocessing.settings import Settings
from preprocessing.types import MediaInfo, Track

ASSUMED_FPS = 25.0


def analyse_landmarks(
    path: Path,
    stages: LocalStages,
    settings: Settings | None = None,
    *,
    extractor: str | None = None,
    name: str | None = None,
    progress: Progress = lambda stage, share: None,
) -> Analysis:
    """Score LRNet's landmark file (one row of 136 normalised values a frame) with the detectors for landmarks.

    Scores measure the extractor's jitter, so they count only where `extractor` is the one of the weights' training
    data; else they are shown as out of domain and the verdict stays inconclusive. Raises MediaError.
    """
    settings = settings or Settings()
    infos = choose(stages.infos(), settings.detectors)
    start = time.perf_counter()
    rows = read_lrnet_txt(path)
    frames = np.arange(len(rows))
    empty = np.zeros((len(rows), 68, 2), np.float32)
    track = Track(0, frames, frames / ASSUMED_FPS, np.zeros((len(rows), 4), np.float32), empty)
    timings = {"reading": time.perf_counter() - start}
    scores = {}
    for done, (key, info) in enumerate(infos.items()):
        progress("detectors", done / len(infos))
        spec = info.input
        if not isinstance(spec, LandmarkInput):
            reason = "looks at pixels; this file holds landmarks"
            scores[key] = DetectorScore(status="not_applicable", reason=reason, weights=info.label)
        else:
            samples = landmark_samples(rows, track, spec.length, _out_of_domain(spec, extractor))
            if isinstance(samples, str):
                scores[key] = DetectorScore(status="not_applicable", reason=samples, weights=info.label)
            else:
                scores[key] = _score(info, stages, samples)
    timings["detectors"] = time.perf_counter() - start - timings["reading"]
    face = FaceResult(
        track=0,
        times=(0.0, float(track.times[-1])),
        frames=len(rows),
        box=(0.0, 0.0, 0.0, 0.0),
        boxes=[],
        box_times=[],
        detectors=scores,
    )
    content = path.read_bytes()
    header = MediaInfo("video", "text", "lrnet", 0, 0, len(content), hashlib.sha256(content).hexdigest())
    result = conclude(name or path.name, header, TrackingSummary(len(rows), (), False), [face], infos, timings)
    result.media.kind = "landmarks"
    result.warnings.insert(0, Notice(code="assumed_fps", message=f"Times assume {ASSUMED_FPS:g} frames a second."))
    if extractor:
        told = f"That the landmarks are {extractor}'s, with faces detected as in training, is your word."
        result.warnings.insert(0, Notice(code="extractor_told", message=told))
    progress("done", 1.0)
    return Analysis(result)


def _out_of_domain(spec: LandmarkInput, extractor: str | None) -> str:
    if extractor is None:
        return f"it is not known which program found these landmarks; its weights know {spec.extractor}'s (--extractor)"
    if extractor != spec.extractor:
        return f"its weights were trained on landmarks of {spec.extractor}, these come from {extractor}"
    return ""


def _score(info: DetectorInfo, stages: LocalStages, samples: Samples) -> DetectorScore:
    try:
        prediction = asyncio.run(stages.detect(info.name, samples.inputs, 0))
    except Exception as error:
        return DetectorScore(status="failed", reason=f"{type(error).__name__}: {error}", weights=info.label)
    return answer(info, prediction, samples)
