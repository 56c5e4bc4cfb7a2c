"""LRNet's evidence in a whole analysis: which moments are shown, where the landmarks are drawn, what it costs."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from detectors.base import DetectorOutput
from detectors.explain import explain
from detectors.landmark_evidence import CLIPS_AT_ONCE, attribution
from detectors.local import LocalStages, analyse_file
from detectors.methods.lrnet import LRNet, LRNetConfig
from detectors.predict import predict
from detectors.result import Analysis, DetectorScore
from detectors.sampling import TrackCrops
from detectors.steps import DISPLAY_INPUT, FaceMeta, TrackPrediction
from detectors.store import Calibration, LoadedDetector, WeightCard
from preprocessing.crops import crop_transform
from preprocessing.inputs import FaceInput
from preprocessing.settings import MediaLimits, Settings
from preprocessing.types import Track

CLIP = Path(__file__).resolve().parents[2] / "ui" / "samples" / "astronaut-clip.mp4"


@cache
def lrnet() -> LoadedDetector:
    torch.manual_seed(0)
    card = WeightCard(
        detector="lrnet", profile="compact", name="one", file="one.safetensors", sha256="0" * 64, bytes=1, data="none",
        licence="none", command="pytest", date="2026-01-01", config={},
        calibration=Calibration(a=2, b=0.5, fitted_on="nothing", n=1),
    )  # fmt: skip
    return LoadedDetector(LRNet(LRNetConfig()).eval(), card)


@dataclass
class Seen:
    """What an analysis asked of its stages: samples and maps of each call, tracks and calibrated rows."""

    calls: list[tuple[NDArray[Any], int]] = field(default_factory=list)
    tracks: dict[int, Track] = field(default_factory=dict)
    rows: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    passes: int = 0


class Watched(LocalStages):
    def __init__(self) -> None:
        super().__init__({"lrnet": lrnet()})
        self.seen = Seen()

    async def calibrate(
        self, path: Path, limits: MediaLimits, tracks: Mapping[int, Track]
    ) -> dict[int, NDArray[np.float32]]:
        self.seen.tracks = dict(tracks)
        self.seen.rows = await super().calibrate(path, limits, tracks)
        return self.seen.rows

    async def detect(self, name: str, samples: Any, maps: int) -> TrackPrediction:
        self.seen.calls.append((np.asarray(samples), maps))
        return await super().detect(name, samples, maps)


@cache
def analysed(maps: int, samples: int = 32) -> tuple[Analysis, DetectorScore, Seen]:
    stages = Watched()
    forward = LRNet.forward

    def counted(network: LRNet, batch: torch.Tensor) -> DetectorOutput:
        stages.seen.passes += 1
        return forward(network, batch)

    settings = Settings.model_validate({"heatmaps": maps, "tracking": {"samples": samples}})
    with patch.object(LRNet, "forward", counted):  # of copies of the network too
        analysis = analyse_file(CLIP, stages, settings)
    (face,) = analysis.result.faces
    return analysis, face.detectors["lrnet"], stages.seen


def picture(analysis: Analysis, name: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(analysis.artifacts[name])))


def test_the_most_suspicious_clips_are_shown() -> None:
    analysis, score, _ = analysed(2)
    assert score.status == "ok" and len(score.frame_scores) == 3 and len(score.heatmaps) == 2
    clips = [(s.frame // 30, s.score) for s in score.frame_scores]
    most = sorted(sorted(clips, key=lambda clip: -clip[1])[:2])
    assert [(h.frame // 30, h.score) for h in score.heatmaps] == most
    for heatmap in score.heatmaps:
        assert heatmap.time == pytest.approx(heatmap.frame / 25, abs=0.01)
        assert picture(analysis, heatmap.crop).shape == (256, 256, 3)
        drawn = picture(analysis, heatmap.map)
        assert drawn.shape == (256, 256)
        assert drawn.max() / 255 == pytest.approx(heatmap.score, abs=0.02)


def test_landmarks_are_drawn_where_the_crop_shows_them_as_explain_draws_them() -> None:
    analysis, score, seen = analysed(2)
    (track,), (rows,) = seen.tracks.values(), seen.rows.values()
    for heatmap in score.heatmaps:
        clip = heatmap.frame // 30
        points = []
        for landmarks in track.landmarks[clip * 30 : clip * 30 + 30]:
            matrix = crop_transform(landmarks, DISPLAY_INPUT)
            points.append(landmarks @ matrix[:, :2].T + matrix[:, 2])
        given = rows[None, clip * 30 : clip * 30 + 30]
        # All frames of the clip lie at the shown one's points, so that it does not matter which of them explain shows.
        shown = np.tile(points[heatmap.frame % 30], (1, 30, 1, 1))
        expected = explain(lrnet(), given, points=shown, size=DISPLAY_INPUT.size)
        assert np.abs(picture(analysis, heatmap.map) / 255 - expected.maps[0]).max() < 1.5 / 255
        # Of the frames whose pictures are kept, every fourth, it is the one that says most.
        moments = expected.moments
        assert moments is not None
        kept = [frame for frame in range(clip * 30, clip * 30 + 30) if frame % 4 == 0]
        assert heatmap.frame == max(kept, key=lambda frame: float(moments[0, frame % 30]))


def test_clips_without_a_kept_picture_are_not_explained() -> None:
    _, score, seen = analysed(4, samples=2)
    assert [h.frame for h in score.heatmaps] == [0, 64]
    assert [len(samples) for samples, _ in seen.calls] == [3, 2]


def test_evidence_costs_one_more_call_for_the_clips_that_are_shown_and_two_more_passes() -> None:
    _, _, seen = analysed(2)
    assert [(len(samples), maps) for samples, maps in seen.calls] == [(3, 0), (2, 2)]
    assert seen.passes == 3
    _, score, unasked = analysed(0)
    assert [(len(samples), maps) for samples, maps in unasked.calls] == [(3, 0)]
    assert unasked.passes == 1 and not score.heatmaps


def test_the_score_does_not_depend_on_whether_evidence_is_asked_for() -> None:
    with_maps, without = analysed(2)[1], analysed(0)[1]
    assert (with_maps.score, with_maps.logit) == (without.score, without.logit)
    assert with_maps.frame_scores == without.frame_scores


@pytest.mark.parametrize("display", [False, True])
def test_crops_for_people_are_kept_of_all_sampled_faces_only_where_they_are_needed(display: bool) -> None:
    specs = [DISPLAY_INPUT, FaceInput(64)]
    crops = TrackCrops(specs, [], display)
    crops.shrink(4)
    for frame in range(4):
        places = crops.offer(FaceMeta(1, frame, frame / 25, (0, 0, 1, 1)))
        assert places is not None
        crops.fill(places, {spec: object() for spec in crops.wanted(places)})
    assert [DISPLAY_INPUT in kept for _, kept in crops.faces.ordered()] == [True] + [display] * 3
    assert all(FaceInput(64) in kept for _, kept in crops.faces.ordered())


def test_clips_that_are_explained_together_do_not_change_each_other() -> None:
    count = CLIPS_AT_ONCE + 2
    rows = np.random.default_rng(0).normal(0, 0.1, (count, 30, 136)).astype(np.float32)
    detector = lrnet().detector
    together = attribution(detector, detector.prepare(rows))
    alone = torch.cat([attribution(detector, detector.prepare(row[None])) for row in rows])
    assert together.shape == (count, 30, 68) and torch.allclose(together, alone, atol=1e-6)
    still = rows.mean(1, keepdims=True).repeat(30, 1)
    moved = predict(lrnet(), rows).logits - predict(lrnet(), still).logits
    assert np.allclose(together.sum((1, 2)), moved, atol=1e-4)
