"""What an evaluation's rows say of each track, before calibration."""

import math

import pytest

from train.evidence import with_tracks


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def face(track: int, logit: float, frames: tuple[float, ...], a: float = 2.0, b: float = -0.5) -> dict:
    score = sigmoid(a * logit + b)
    said = {"status": "ok", "reason": "", "score": score, "logit": logit}
    said["frame_scores"] = [[number, round(sigmoid(a * one + b), 6)] for number, one in enumerate(frames)]
    silent = {"status": "not_applicable", "reason": "needs a video", "score": None, "logit": None, "frame_scores": []}
    return {
        "track": track, "frames": 40, "quality": [], "quality_measures": {"small": 0.3}, "fused": 0.5,
        "detectors": {"mesonet": said, "lrnet": silent},
    }  # fmt: skip


def test_logits_of_frames_are_recovered_with_the_calibration_that_the_report_was_made_with() -> None:
    rows = [{"label": 0, "faces": [face(0, 0.4, (0.1, 0.7)), face(1, -1.5, (-1.0, -2.0))]}, {"label": 1, "faces": []}]
    first, second = with_tracks(rows)
    assert [track["logits"] for track in first["tracks"]] == [{"mesonet": 0.4}, {"mesonet": -1.5}]
    assert first["tracks"][0]["frame_logits"]["mesonet"] == pytest.approx([0.1, 0.7], abs=1e-4)
    assert first["tracks"][1]["quality"] == {"small": 0.3} and first["tracks"][1]["frames"] == 40
    assert "tracks" not in second


def test_a_calibration_that_ignores_the_logit_cannot_be_undone() -> None:
    rows = [{"label": 0, "faces": [face(0, 0.4, (0.1,), a=0.0), face(1, -1.5, (-1.0,), a=0.0)]}]
    tracks = with_tracks(rows)[0]["tracks"]
    assert tracks[0]["logits"] == {"mesonet": 0.4} and tracks[0]["frame_logits"] == {}


def test_rows_that_have_tracks_are_kept_as_they_are() -> None:
    rows = [{"tracks": [{"logits": {"a": 1.0}}], "faces": [face(0, 0.4, ())]}]
    assert with_tracks(rows) == rows
