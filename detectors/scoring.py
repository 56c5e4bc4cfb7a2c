"""Every detector on every face, in parallel, each under its deadline; a failure costs that detector only."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detectors.base import Meta
from detectors.heatmaps import heatmaps, predict
from detectors.landmark_track import pack
from detectors.result import DetectorScore, FaceResult, FrameScore
from detectors.steps import DISPLAY_INPUT, FaceMeta, TrackPrediction
from detectors.store import Calibration
from preprocessing.errors import MediaError
from preprocessing.inputs import ClipInput, FaceInput, InputSpec, LandmarkInput
from preprocessing.settings import Settings
from preprocessing.types import Track

if TYPE_CHECKING:
    from detectors.pipeline import Progress, Stages, Tracked


FACES_AT_ONCE = 2
"""Faces that one detector looks at together; each holds a batch's activations. One that misses its deadline gets no
further faces of the analysis, so that it costs two waits and not one a face."""


@dataclass(frozen=True)
class DetectorInfo:
    """What the orchestrator knows of a loaded detector without holding its network."""

    name: str
    profile: str
    meta: Meta
    input: InputSpec
    label: str
    calibration: Calibration | None
    sha256: str

    def score(self, logit: float) -> float:
        """Calibrated probability of a track or sample logit; uncalibrated weights give the plain sigmoid."""
        a, b = (self.calibration.a, self.calibration.b) if self.calibration else (1.0, 0.0)
        return float(1 / (1 + np.exp(-(a * logit + b))))


@dataclass(frozen=True)
class Samples:
    """What one detector gets of one track, and which moment each sample stands for; `clips` are all of a clip's."""

    inputs: Sequence[Any] | NDArray[Any]
    moments: list[FaceMeta]
    out_of_domain: str = ""
    clips: list[list[FaceMeta]] | None = None
    rows: NDArray[np.int64] | None = None
    """(N, T), of landmarks: which rows of the track each sample's are."""


Outcome = tuple[DetectorScore, TrackPrediction | None, Samples | None]


async def score_faces(
    path: Path,
    stages: Stages,
    settings: Settings,
    infos: Mapping[str, DetectorInfo],
    tracked: Tracked,
    timings: dict[str, float],
    progress: Progress,
) -> tuple[list[FaceResult], dict[str, bytes]]:
    """A FaceResult for each track, largest share of the video first, and the files that they name."""
    start = time.perf_counter()
    rows = await _calibrated(path, stages, settings, infos, tracked)
    timings["calibration"] = time.perf_counter() - start
    jobs = {(track, name): None for track in tracked.tracks for name in infos}
    done = 0
    told: Counter[str] = Counter()
    turns = {name: asyncio.Semaphore(FACES_AT_ONCE) for name in infos}
    overdue: set[str] = set()

    async def one(track: int, info: DetectorInfo) -> Outcome:
        nonlocal done
        async with turns[info.name]:
            if not told[info.name]:
                progress(f"detectors/{info.name}", 0.0)
            late = info.name in overdue
            outcome = _late(settings, info) if late else await _score(stages, settings, info, tracked, track, rows)
            if outcome[0].status == "timeout":
                overdue.add(info.name)
        done += 1
        told[info.name] += 1
        progress(f"detectors/{info.name}", told[info.name] / len(tracked.tracks))
        progress("detectors", done / len(jobs))
        return outcome

    outcomes = await asyncio.gather(*(one(track, infos[name]) for track, name in jobs))
    faces: dict[int, FaceResult] = {}
    artifacts: dict[str, bytes] = {}
    for number, track in tracked.tracks.items():
        faces[number] = await _face(stages, track, tracked, artifacts)
        if settings.heatmaps > 0 and isinstance(rows, dict) and number in rows:
            size = (tracked.info.width, tracked.info.height)
            faces[number].landmarks = f"landmarks/{number}.npz"
            artifacts[f"landmarks/{number}.npz"] = await asyncio.to_thread(pack, track, rows[number], size)
    for (number, name), (score, prediction, samples) in zip(jobs, outcomes, strict=True):
        faces[number].detectors[name] = score
        if prediction is not None and samples is not None:
            score.heatmaps.extend(await heatmaps(stages, infos[name], tracked, number, prediction, samples, artifacts))
    return sorted(faces.values(), key=lambda face: (-face.frames, face.track)), artifacts


async def _calibrated(
    path: Path, stages: Stages, settings: Settings, infos: Mapping[str, DetectorInfo], tracked: Tracked
) -> dict[int, NDArray[np.float32]] | str:
    """Calibrated landmark rows of the tracks that are long enough, or the reason why there are none."""
    lengths = [i.input.length for i in infos.values() if isinstance(i.input, LandmarkInput)]
    if not lengths or tracked.info.kind != "video":
        return {}
    long_enough = {k: t for k, t in tracked.tracks.items() if len(t) >= min(lengths)}
    if not long_enough:
        return {}
    try:
        async with asyncio.timeout(settings.calibration_deadline_s):
            return await stages.calibrate(path, settings.limits, long_enough)
    except TimeoutError:
        return f"landmark calibration was not done within {settings.calibration_deadline_s:g} s"
    except MediaError as error:
        return f"landmark calibration failed: {error.reason}"


def _samples(
    info: DetectorInfo,
    stages: Stages,
    settings: Settings,
    tracked: Tracked,
    number: int,
    rows: dict[int, NDArray[np.float32]] | str,
) -> Samples | str:
    """The detector's input for a track, or the plain reason why there is none."""
    spec = info.input
    if isinstance(spec, FaceInput):
        kept = tracked.crops[number].faces.ordered()
        return Samples([crops[spec] for _, crops in kept], [face for face, _ in kept])
    if tracked.info.kind != "video":
        return f"needs a video: it looks at {spec.length} consecutive frames"
    if isinstance(spec, ClipInput):
        clips = tracked.crops[number].clips[spec].ordered()
        if not clips:
            needed = (spec.length - 1) * spec.stride + 1
            return f"needs {needed} consecutive frames of a face; this track of {len(tracked.tracks[number])} has none"
        moments = [faces[spec.length // 2] for faces, _ in clips]
        return Samples([crops for _, crops in clips], moments, clips=[faces for faces, _ in clips])
    if isinstance(rows, str):
        return rows
    track = tracked.tracks[number]
    if number not in rows:
        return f"needs {spec.length} consecutive frames of a face; this track has {len(track)}"
    reasons = []
    if spec.extractor != stages.extractor:
        reasons.append(f"its weights were trained on landmarks of {spec.extractor}, these come from {stages.extractor}")
    if spec.box_every != settings.tracking.box_every:
        found = settings.tracking.box_every
        reasons.append(
            f"its weights were trained with faces detected every {spec.box_every} frames, here every {found}"
        )
    return landmark_samples(rows[number], track, spec.length, "; ".join(reasons))


def landmark_samples(rows: NDArray[np.float32], track: Track, length: int, out_of_domain: str = "") -> Samples | str:
    """Calibrated rows (N, 136), one a frame of the track, cut into clips; each stands for its middle frame.

    No clip spans a gap in the track or a row of NaN. The plain reason where no run of frames is long enough.
    """
    from detectors.methods.lrnet import clips

    usable: NDArray[np.bool_] = np.isfinite(rows).all(axis=1)  # type: ignore[assignment]
    breaks = np.flatnonzero((np.diff(track.frames) != 1) | ~usable[1:] | ~usable[:-1]) + 1
    cut, moments, places = [], [], []
    for run in np.split(np.arange(len(rows)), breaks):
        for number, clip in enumerate(clips(rows[run], length)):
            places.append(run[number * length : (number + 1) * length])
            middle = places[-1][length // 2]
            x1, y1, x2, y2 = (float(v) for v in track.boxes[middle])
            moments.append(FaceMeta(track.id, int(track.frames[middle]), float(track.times[middle]), (x1, y1, x2, y2)))
            cut.append(clip)
    if not cut:
        return f"needs {length} consecutive frames of a face; this track of {len(track)} has no such run"
    return Samples(np.stack(cut), moments, out_of_domain, rows=np.stack(places))


async def _score(
    stages: Stages,
    settings: Settings,
    info: DetectorInfo,
    tracked: Tracked,
    number: int,
    rows: dict[int, NDArray[np.float32]] | str,
) -> Outcome:
    samples = _samples(info, stages, settings, tracked, number, rows)
    if isinstance(samples, str):
        return DetectorScore(status="not_applicable", reason=samples, weights=info.label), None, None
    try:
        async with asyncio.timeout(settings.detector_deadline_s):
            prediction = await predict(stages, info, tracked, number, samples, settings.heatmaps)
    except TimeoutError:
        return _late(settings, info)
    except Exception as error:  # one detector's fault must not cost the others their answer
        return DetectorScore(status="failed", reason=_plain(error), weights=info.label), None, None
    return answer(info, prediction, samples), prediction, samples


def _late(settings: Settings, info: DetectorInfo) -> Outcome:
    reason = f"no answer within its deadline of {settings.detector_deadline_s:g} s"
    return DetectorScore(status="timeout", reason=reason, weights=info.label), None, None


def answer(info: DetectorInfo, prediction: TrackPrediction, samples: Samples) -> DetectorScore:
    """A prediction with its calibration, for one face."""
    from detectors.registry import entry

    pooled = info.calibration.aggregation if info.calibration else None
    track_logit = pooled.pool(prediction.logits) if pooled else entry(info.name).cls.track_logit(prediction.logits)
    return DetectorScore(
        status="out_of_domain" if samples.out_of_domain else "ok",
        reason=samples.out_of_domain,
        score=info.score(track_logit),
        logit=track_logit,
        frame_scores=[
            FrameScore(time=m.time, frame=m.frame, score=info.score(float(value)))
            for m, value in zip(samples.moments, prediction.logits, strict=True)
        ],
        embedding=prediction.embedding,
        weights=info.label,
        seconds=round(prediction.seconds, 4),
    )


def _plain(error: Exception) -> str:
    """The last line of an error, short enough for a table."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1][:200]}" if lines else type(error).__name__


async def _face(stages: Stages, track: Track, tracked: Tracked, artifacts: dict[str, bytes]) -> FaceResult:
    kept = tracked.crops[track.id].faces.ordered()
    thumbnail = None
    if kept:
        thumbnail = f"faces/{track.id}.jpg"
        artifacts[thumbnail] = await stages.jpeg(kept[0][1][DISPLAY_INPUT])
    boxes = [face.box for face, _ in kept]
    middle = track.boxes[len(track) // 2]
    return FaceResult(
        track=track.id,
        times=(float(track.times[0]), float(track.times[-1])),
        frames=len(track),
        box=(float(middle[0]), float(middle[1]), float(middle[2]), float(middle[3])),
        boxes=boxes,
        box_times=[face.time for face, _ in kept],
        thumbnail=thumbnail,
        quality=sorted(flag for flag, count in track.quality.items() if count * 2 >= len(track)),
    )
