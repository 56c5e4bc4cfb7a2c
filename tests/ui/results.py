"""Results that have the form and the limits of real ones, for tests of wording, plots and HTML."""

from __future__ import annotations

from typing import Any

from detectors.result import AnalysisResult, DetectorScore, FaceResult, FrameScore, Heatmap, Media, Notice


def media(**changes: Any) -> Media:
    values: dict[str, Any] = {
        "name": "clip.mp4", "sha256": "a" * 64, "kind": "video", "container": "mov", "codec": "h264", "width": 640,
        "height": 360, "fps": 25.0, "duration_s": 4.0, "frames_analysed": 100,
    }  # fmt: skip
    return Media(**{**values, **changes})


def detector(score: float | None, **changes: Any) -> DetectorScore:
    moments = [] if score is None else [FrameScore(time=i / 2, frame=i * 12, score=score) for i in range(4)]
    values: dict[str, Any] = {"status": "ok", "score": score, "frame_scores": moments, "weights": "w@123456789012"}
    return DetectorScore(**{**values, **changes})


def face(track: int = 0, fused: float | None = 0.93, **changes: Any) -> FaceResult:
    interval = None if fused is None else (max(fused - 0.1, 0), min(fused + 0.05, 1))
    heatmap = Heatmap(time=0.5, frame=12, score=0.9, crop="heatmaps/m/0-12.jpg", map="heatmaps/m/0-12.png")
    values: dict[str, Any] = {
        "track": track, "times": (0.0, 4.0), "frames": 100, "box": (1.0, 2.0, 30.0, 40.0), "boxes": [],
        "box_times": [], "fused": fused, "interval": interval,
        "contributions": {} if fused is None else {"mesonet": 2.1, "lrnet": -0.4},
        "detectors": {
            "mesonet": detector(0.9, heatmaps=[heatmap]),
            "lrnet": detector(None, status="not_applicable", reason="needs a video"),
        },
    }  # fmt: skip
    return FaceResult(**{**values, **changes})


def result(verdict: str = "fake", faces: list[FaceResult] | None = None, **changes: Any) -> AnalysisResult:
    people = [face()] if faces is None else faces
    first = people[0] if people else None
    values: dict[str, Any] = {
        "media": media(), "verdict": verdict, "score": first.fused if first else None,
        "interval": first.interval if first else None, "threshold": 0.5, "faces": people,
        "reasons": ["mesonet gives 0.90 and moves the fused score towards fake."],
        "warnings": [Notice(code="input", message="a warning")],
    }  # fmt: skip
    return AnalysisResult(**{**values, **changes})
