"""The whole analysis in one process, on the bundled sample, with networks that were never trained.

Untrained weights live in a store of the test's own: what is checked is the machinery, not the scores.
"""

import asyncio
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from detectors.fusion import FusionModel
from detectors.local import DETECTOR_THREAD, LocalStages, analyse_file, describe_detector
from detectors.pipeline import choose
from detectors.registry import create
from detectors.result import AnalysisResult, DetectorScore, FaceResult
from detectors.steps import TrackingSummary
from detectors.store import Calibration, LoadedDetector, WeightCard, save
from detectors.verdict import conclude
from preprocessing.errors import MediaMissing, MediaTooLarge
from preprocessing.inputs import ClipInput
from preprocessing.settings import Settings, TrackingSettings
from preprocessing.types import MediaInfo

SAMPLES = Path(__file__).resolve().parents[2] / "ui" / "samples"


def untrained(name: str, folder: Path) -> LoadedDetector:
    torch.manual_seed(0)
    detector = create(name).eval()
    card: WeightCard = save(
        detector, folder, profile="compact", name=f"{name}-test", licence="none", data="none", command="none",
        date="2026-01-01", calibration=Calibration(a=1, b=0, fitted_on="nothing", n=1),
    )  # fmt: skip
    return LoadedDetector(detector, card)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedDetector]:
    folder = tmp_path_factory.mktemp("store")
    return {name: untrained(name, folder) for name in ("mesonet", "lrnet")}


@pytest.fixture(scope="module")
def stages(loaded: dict[str, LoadedDetector]) -> LocalStages:
    return LocalStages(loaded)


@pytest.fixture(scope="module")
def clip_analysis(stages: LocalStages):
    seen: list[tuple[str, float]] = []
    found = analyse_file(SAMPLES / "astronaut-clip.mp4", stages, progress=lambda *step: seen.append(step))
    return found, seen


def test_a_clip_is_followed_as_one_person_and_scored_by_every_detector(clip_analysis) -> None:
    result = clip_analysis[0].result
    (face,) = result.faces
    assert face.frames == 100 and face.times == pytest.approx((0, 3.96), abs=0.01)
    assert {name: score.status for name, score in face.detectors.items()} == {"mesonet": "ok", "lrnet": "ok"}
    assert len(face.detectors["mesonet"].frame_scores) == len(face.boxes) == 25
    assert len(face.detectors["lrnet"].frame_scores) == 3
    assert result.media.frames_analysed == 100 and not result.incomplete


def test_every_named_picture_is_there_and_every_picture_is_named(clip_analysis) -> None:
    found, _ = clip_analysis
    named = {found.result.faces[0].thumbnail, found.result.faces[0].landmarks}
    for score in found.result.faces[0].detectors.values():
        named |= {name for heatmap in score.heatmaps for name in (heatmap.crop, heatmap.map)}
    assert named == set(found.artifacts)
    first = {"jpg": b"\xff\xd8", "png": b"\x89PNG", "npz": b"PK"}
    assert all(data.startswith(first[name.rpartition(".")[2]]) for name, data in found.artifacts.items())


def test_progress_runs_through_the_stages_and_ends(clip_analysis) -> None:
    _, seen = clip_analysis
    stages = list(dict.fromkeys(stage for stage, _ in seen if "/" not in stage))
    assert stages == ["tracking", "detectors", "fusion", "done"]
    for name in ("mesonet", "lrnet"):
        assert [share for stage, share in seen if stage == f"detectors/{name}"] == [0.0, 1.0]
    assert all(0 <= share <= 1 for _, share in seen) and seen[-1] == ("done", 1.0)


def test_the_result_survives_json(clip_analysis) -> None:
    result = clip_analysis[0].result
    assert AnalysisResult.model_validate_json(result.model_dump_json()) == result


def test_the_same_file_gives_the_same_scores(clip_analysis, stages: LocalStages) -> None:
    again = analyse_file(SAMPLES / "astronaut-clip.mp4", stages).result
    first = clip_analysis[0].result
    for name, score in first.faces[0].detectors.items():
        other = again.faces[0].detectors[name]
        assert [s.score for s in other.frame_scores] == pytest.approx([s.score for s in score.frame_scores], abs=1e-6)


def test_an_image_is_scored_by_what_looks_at_images(stages: LocalStages) -> None:
    face = analyse_file(SAMPLES / "astronaut-real.jpg", stages).result.faces[0]
    assert face.detectors["mesonet"].status == "ok"
    assert face.detectors["lrnet"].status == "not_applicable" and "video" in face.detectors["lrnet"].reason


def test_clips_of_a_video_reach_the_detectors_that_want_them(loaded: dict[str, LoadedDetector], tmp_path: Path) -> None:
    both = LocalStages({"mesonet": loaded["mesonet"], "c3d": untrained("c3d", tmp_path)})
    spec = create("c3d").input
    assert isinstance(spec, ClipInput)
    found = analyse_file(SAMPLES / "astronaut-clip.mp4", both)
    face = found.result.faces[0]
    answer = face.detectors["c3d"]
    assert answer.status == "ok" and answer.frame_scores is not None
    frames = [one.frame for one in answer.frame_scores]
    assert frames[0] == spec.length // 2 * spec.stride
    assert set(np.diff(frames)) <= {spec.length * spec.stride * 2**n for n in range(4)}
    assert face.detectors["mesonet"].status == "ok"


def test_a_still_has_no_clip(loaded: dict[str, LoadedDetector], tmp_path: Path) -> None:
    alone = LocalStages({"c3d": untrained("c3d", tmp_path)})
    answer = analyse_file(SAMPLES / "astronaut-real.jpg", alone).result.faces[0].detectors["c3d"]
    assert answer.status == "not_applicable" and "needs a video" in answer.reason


def test_landmark_weights_refuse_boxes_detected_at_another_spacing(stages: LocalStages) -> None:
    settings = Settings(tracking=TrackingSettings(box_every=1), detectors=("lrnet",))
    result = analyse_file(SAMPLES / "astronaut-clip.mp4", stages, settings).result
    assert result.faces[0].detectors["lrnet"].status == "out_of_domain"
    assert result.verdict == "inconclusive" and any(n.code == "detector_out_of_domain" for n in result.warnings)


def test_a_broken_detector_costs_its_own_answer_only(loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a kernel fell over")

    broken = LocalStages(loaded)
    monkeypatch.setattr(loaded["mesonet"].detector, "forward", fail)
    face = analyse_file(SAMPLES / "astronaut-clip.mp4", broken).result.faces[0]
    assert face.detectors["mesonet"].status == "failed" and "kernel fell over" in face.detectors["mesonet"].reason
    assert face.detectors["lrnet"].status == "ok"


def test_a_detector_that_hangs_is_named_as_late_and_holds_up_nothing(loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = LocalStages(loaded)
    real, release = slow._detect.__call__, threading.Event()

    def hang(name: str, *rest: object):
        if name == "mesonet":
            release.wait(120)
        return real(name, *rest)

    monkeypatch.setattr(slow, "_detect", hang)
    started = time.monotonic()
    face = analyse_file(SAMPLES / "astronaut-clip.mp4", slow, Settings(detector_deadline_s=5)).result.faces[0]
    assert time.monotonic() - started < 90 and not release.is_set()
    release.set()
    for thread in threading.enumerate():  # native code must not outlive the interpreter
        if thread.name.startswith(DETECTOR_THREAD):
            thread.join()
    assert face.detectors["mesonet"].status == "timeout" and "5 s" in face.detectors["mesonet"].reason
    assert face.detectors["lrnet"].status == "ok"


def test_of_a_video_that_takes_too_long_the_beginning_is_analysed(
    stages: LocalStages, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = LocalStages.track

    async def endless(self, *given):
        async for message in real(self, *given):
            if isinstance(message, TrackingSummary):
                await asyncio.sleep(600)  # a file whose rest takes an hour
            yield message

    monkeypatch.setattr(LocalStages, "track", endless)
    result = analyse_file(SAMPLES / "astronaut-clip.mp4", stages, Settings(tracking_deadline_s=8)).result
    assert result.incomplete and result.verdict != "real" and result.media.frames_analysed > 0
    assert any("within 8 s" in notice.message for notice in result.warnings)
    assert result.faces[0].detectors["mesonet"].status == "ok"  # what was tracked is judged


def test_a_picture_that_takes_too_long_is_refused(stages: LocalStages, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object):
        await asyncio.sleep(600)

    monkeypatch.setattr(LocalStages, "landmarks", hang)
    with pytest.raises(MediaTooLarge, match="no frame was analysed within 2 s"):
        analyse_file(SAMPLES / "astronaut-real.jpg", stages, Settings(tracking_deadline_s=2))


def test_calibration_that_takes_too_long_costs_the_detectors_that_need_it(
    stages: LocalStages, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object):
        await asyncio.sleep(600)

    monkeypatch.setattr(LocalStages, "calibrate", hang)
    face = analyse_file(SAMPLES / "astronaut-clip.mp4", stages, Settings(calibration_deadline_s=1)).result.faces[0]
    assert "not done within 1 s" in face.detectors["lrnet"].reason and face.detectors["mesonet"].status == "ok"


def test_a_missing_file_and_an_unknown_detector_are_named(stages: LocalStages) -> None:
    with pytest.raises(MediaMissing, match="no such file"):
        analyse_file(SAMPLES / "none.mp4", stages)
    with pytest.raises(ValueError, match=r"'mesonot' is not available.*lrnet, mesonet"):
        choose(stages.infos(), ("mesonot",))


def concluded(
    score: float | None, *, interval: list[list[float]], incomplete: bool = False, quality: list[str] | None = None
):
    loaded_info = describe_detector_of_test()
    model = FusionModel(
        weights={"mesonet": 1.0},
        bias=0.0,
        bootstrap=interval,
        fitted_on="",
        n=9,
        for_weights={"mesonet": "x"},
        blind_to="Puppets are not seen.",
    )
    detectors = {
        "mesonet": DetectorScore(status="ok", score=score, logit=0.0)
        if score is not None
        else DetectorScore(status="failed", reason="fell over")
    }
    faces = [
        FaceResult(
            track=0,
            times=(0, 1),
            frames=30,
            box=(0, 0, 9, 9),
            boxes=[],
            box_times=[],
            detectors=detectors,
            quality=quality or [],
        )
    ]
    info = MediaInfo("video", "mp4", "h264", 64, 64, 1, "0" * 64)
    return conclude("clip.mp4", info, TrackingSummary(30, (), incomplete), faces, {"mesonet": loaded_info}, {}, model)


def describe_detector_of_test():
    from dataclasses import replace

    torch.manual_seed(0)
    card = WeightCard(
        detector="mesonet", profile="compact", name="t", file="t.safetensors", sha256="0" * 64, bytes=1, licence="",
        data="", command="", date="", config={},
    )  # fmt: skip
    return replace(describe_detector(LoadedDetector(create("mesonet"), card)), sha256="x")


SURE, UNSURE = [[1.0, 0.0]], [[1.0, -4.0], [1.0, 4.0]]


def test_a_verdict_needs_the_whole_interval_on_one_side() -> None:
    assert concluded(0.95, interval=SURE).verdict == "fake"
    assert concluded(0.05, interval=SURE).verdict == "real"
    assert concluded(0.7, interval=UNSURE).verdict == "inconclusive"


def test_an_all_clear_says_what_the_detectors_are_blind_to() -> None:
    assert concluded(0.05, interval=SURE).reasons[-1] == "Puppets are not seen."
    assert "Puppets are not seen." not in concluded(0.95, interval=SURE).reasons


def test_half_a_file_gets_no_all_clear_but_still_an_alarm() -> None:
    assert concluded(0.05, interval=SURE, incomplete=True).verdict == "inconclusive"
    assert concluded(0.95, interval=SURE, incomplete=True).verdict == "fake"


def test_a_poor_face_and_a_score_near_the_threshold_carry_no_verdict() -> None:
    for score in (0.05, 0.95):
        assert concluded(score, interval=SURE, quality=["small"]).verdict == "inconclusive"
    for score in (0.42, 0.58):
        result = concluded(score, interval=SURE)
        assert result.verdict == "inconclusive" and "lies between the verdicts" in result.reasons[0]


def test_without_a_score_there_is_no_number() -> None:
    result = concluded(None, interval=SURE)
    assert (result.verdict, result.score, result.interval) == ("inconclusive", None, None)
    assert result.warnings[0].message == "mesonet: fell over"


def test_no_face_is_an_outcome_of_its_own(stages: LocalStages, tmp_path: Path) -> None:
    import cv2

    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), noise)
    result = analyse_file(tmp_path / "noise.png", stages).result
    assert (result.verdict, result.score, result.faces) == ("no_face", None, [])
    assert "not a finding that the media is real" in result.reasons[0]
