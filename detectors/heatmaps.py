"""What a detector saw, as pictures: a face crop and the map to lay over it, both named in the result."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detectors.result import Heatmap
from detectors.steps import DISPLAY_INPUT, FaceMeta, TrackPrediction, encode_map
from preprocessing.crops import crop_transform
from preprocessing.inputs import LandmarkInput

if TYPE_CHECKING:
    from detectors.pipeline import Stages, Tracked
    from detectors.scoring import DetectorInfo, Samples


async def heatmaps(
    stages: Stages,
    info: DetectorInfo,
    tracked: Tracked,
    number: int,
    prediction: TrackPrediction,
    samples: Samples,
    artifacts: dict[str, bytes],
) -> list[Heatmap]:
    """Of track `number`, in time order; the files go into `artifacts`."""
    found = []

    async def add(moment: FaceMeta, crop: Any, picture: bytes, score: float) -> None:
        name = f"heatmaps/{info.name}/{number}-{moment.frame}"
        artifacts[f"{name}.jpg"] = await stages.jpeg(crop)
        artifacts[f"{name}.png"] = picture
        found.append(Heatmap(time=moment.time, frame=moment.frame, score=score, crop=f"{name}.jpg", map=f"{name}.png"))

    for index, picture in sorted(prediction.maps.items()):
        moment, crop = samples.moments[index], samples.inputs[index]
        if samples.clips is not None:
            shown = prediction.shown[index]
            moment, crop = samples.clips[index][shown], crop[shown]
        await add(moment, crop, picture, info.score(float(prediction.logits[index])))
    pictures = _pictures(tracked, number, samples) if prediction.evidence else []
    for index, (moments, landmarks) in sorted(prediction.evidence.items()):
        shown = max(pictures[index], key=lambda position: float(moments[position]))
        moment, crop = pictures[index][shown]
        score = info.score(float(prediction.logits[index]))
        assert samples.rows is not None
        points = tracked.tracks[number].landmarks[samples.rows[index, shown]]
        await add(moment, crop, await asyncio.to_thread(_landmark_map, points, landmarks, score), score)
    return found


def _landmark_map(points: NDArray[np.floating], landmarks: NDArray[np.floating], score: float) -> bytes:
    """Landmarks (68, 2) in pixels of the frame as a map over the crop that people are shown."""
    from detectors.landmark_evidence import draw

    matrix = crop_transform(points, DISPLAY_INPUT)
    return encode_map(draw(points @ matrix[:, :2].T + matrix[:, 2], landmarks, score, DISPLAY_INPUT.size))


async def predict(
    stages: Stages, info: DetectorInfo, tracked: Tracked, number: int, samples: Samples, maps: int
) -> TrackPrediction:
    """The detector's answer for track `number`, with its evidence for `maps` samples at most, most suspicious first.

    A detector of landmarks has no picture of its own: its evidence is drawn on crops for people, which are kept of an
    even sample of the frames. Only clips with such a frame are explained; which these are is known here alone, hence a
    second call, with these few clips.
    """
    if not isinstance(info.input, LandmarkInput):
        return await stages.detect(info.name, samples.inputs, maps)
    prediction = await stages.detect(info.name, samples.inputs, 0)
    pictures = _pictures(tracked, number, samples)
    suspicious = [int(i) for i in np.argsort(-prediction.logits, kind="stable") if pictures[i]]
    chosen = sorted(suspicious[:maps])
    if chosen:
        explained = await stages.detect(info.name, np.asarray(samples.inputs)[chosen], len(chosen))
        prediction.evidence = {chosen[i]: found for i, found in explained.evidence.items()}
        prediction.seconds += explained.seconds
    return prediction


def _pictures(tracked: Tracked, number: int, samples: Samples) -> list[dict[int, tuple[FaceMeta, Any]]]:
    """For each clip of landmarks its frames, by position, of which a crop for people was kept."""
    kept = {
        face.frame: (face, crops[DISPLAY_INPUT])
        for face, crops in tracked.crops[number].faces.ordered()
        if DISPLAY_INPUT in crops
    }
    assert samples.rows is not None
    frames = tracked.tracks[number].frames[samples.rows].tolist()
    return [{position: kept[frame] for position, frame in enumerate(clip) if frame in kept} for clip in frames]
