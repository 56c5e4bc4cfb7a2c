"""From faces to a verdict: quality weakens, faces are joined, and the reasons say so."""

import dataclasses

import numpy as np
import pytest

from detectors.base import Meta
from detectors.fusion import FusionModel, join
from detectors.result import AnalysisResult, DetectorScore, FaceResult
from detectors.scoring import DetectorInfo, Samples, answer
from detectors.steps import FaceMeta, TrackingSummary, TrackPrediction
from detectors.store import Calibration
from detectors.verdict import _evidence, _undecided, conclude
from preprocessing.inputs import FaceInput
from preprocessing.types import MediaInfo

META = Meta("t", "p", 2026, "", "looks", "")
INFO = DetectorInfo("mesonet", "compact", META, FaceInput(64, 1.2), "t@0", None, "x")
MODEL = FusionModel(
    weights={"mesonet": 1.0},
    bias=0.0,
    shrink={"compressed": 1.5},
    bootstrap=[],
    threshold=0.8,
    real_below=0.3,
    fitted_on="",
    n=9,
    for_weights={"mesonet": "x"},
)


def concluded(*scores: float, size: int = 10_000_000) -> AnalysisResult:
    faces = [
        FaceResult(
            track=number,
            times=(0, 4),
            frames=100,
            box=(0, 0, 200, 200),
            boxes=[],
            box_times=[],
            detectors={"mesonet": DetectorScore(status="ok", score=score, logit=0.0)},
        )
        for number, score in enumerate(scores)
    ]
    header = MediaInfo("video", "mp4", "h264", 640, 480, size, "0" * 64)
    return conclude("clip.mp4", header, TrackingSummary(100, (), False), faces, {"mesonet": INFO}, {}, MODEL)


def test_one_face_speaks_for_its_file() -> None:
    result = concluded(0.9)
    assert (result.verdict, result.score, result.threshold) == ("fake", pytest.approx(0.9), 0.8)
    assert result.faces[0].quality_measures["compressed"] == 0


def test_one_swapped_face_among_several_real_ones_is_found_and_named() -> None:
    result = concluded(0.1, 0.99, 0.2, 0.1)
    assert result.verdict == "fake" and result.score == pytest.approx(join([0.1, 0.99, 0.2, 0.1]))
    assert "Person 1 is the most suspicious of 4, with 0.99" in result.reasons[0]


def test_a_chance_among_many_real_faces_is_no_alarm() -> None:
    assert concluded(0.82).verdict == "fake"
    assert concluded(0.82, *[0.1] * 9).verdict == "inconclusive"
    assert concluded(0.82, *[0.05] * 19).verdict == "real"


def test_strong_compression_takes_the_verdict_away_and_is_told() -> None:
    good, poor = concluded(0.9), concluded(0.9, size=10_000)
    assert poor.verdict == "inconclusive" and good.score > poor.score > 0.5
    assert "leave 22% of the detectors' say" in poor.reasons[-1]
    assert poor.faces[0].contributions["mesonet"] < good.faces[0].contributions["mesonet"]


def test_the_pooling_of_a_detectors_card_makes_its_track_logit() -> None:
    prediction = TrackPrediction(np.array([-1.0, 0.0, 4.0], np.float32), None, {}, {}, 0.0)
    card = {"a": 1.0, "b": 0.0, "fitted_on": "", "n": 1}
    top = Calibration.model_validate({**card, "aggregation": {"kind": "top", "share": 0.1}})
    samples = Samples([], [_moment(i) for i in range(3)])
    assert answer(dataclasses.replace(INFO, calibration=top), prediction, samples).logit == 4.0
    own = dataclasses.replace(INFO, calibration=Calibration.model_validate(card))
    assert answer(own, prediction, samples).logit == pytest.approx(1.0)


def test_a_detector_that_adds_nothing_is_not_said_to_move_the_score() -> None:
    (face,) = concluded(0.93).faces
    (told,) = _evidence(face.model_copy(update={"contributions": {"mesonet": 0.0}}), 1, 0.9)
    assert told == "Shown, and hardly counted in the fused score: mesonet 0.93."
    assert _evidence(face, 1, 0.9) == ["mesonet gives 0.93 and moves the fused score towards fake."]


def _moment(number: int) -> FaceMeta:
    return FaceMeta(0, number, number / 25, (0.0, 0.0, 9.0, 9.0))


def test_a_score_that_decides_nothing_says_where_verdicts_begin() -> None:
    told = concluded(0.55).reasons[0]
    assert told == "The score 0.55 lies between the verdicts: real is up to 0.30, fake from 0.80."
    never_real = MODEL.model_copy(update={"real_below": 0.0, "threshold": 0.978})
    assert _undecided(0.55, 0.5, 0.6, never_real) == "The score 0.55 does not reach 0.98, where verdicts begin."
    assert "0.976 does not reach 0.978" in _undecided(0.976, 0.9, 0.99, never_real), "never 0.98 that misses 0.98"
    assert "The interval 0.10 to 0.99 reaches" in _undecided(0.999, 0.1, 1.0, MODEL), "nothing is certain"
