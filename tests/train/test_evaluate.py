"""From rows to the report: coverage, outcomes, paired comparison, JSON; and a run of the pipeline itself."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from evaluation_rows import row

from detectors.local import LocalStages
from detectors.result import AnalysisResult
from preprocessing.perturb import PerturbationError
from preprocessing.settings import Settings
from train import measure as measuring
from train.evaluate import detector_scores, evaluate, report, to_json
from train.labelled import Item
from train.metrics import FIGURES

SAMPLES = Path(__file__).parents[2] / "ui" / "samples"


def test_a_file_without_a_score_lowers_coverage_and_nothing_else() -> None:
    found = report([row(0, 0.1, "real"), row(1, 0.9, "fake"), row(0, None, "no_face")])
    assert found["coverage"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["overall"]["auc"]["value"] == 1.0 and found["overall"]["accuracy"]["n"] == 2
    assert found["verdicts"] == {"real": {"no_face": 1, "real": 1}, "fake": {"fake": 1}}
    assert found["by_detector"]["a"]["auc"]["value"] == 1.0 and set(found["by_dataset"]) == {"x"}
    assert set(found["overall"]) == set(FIGURES)


def test_what_got_no_verdict_is_counted_by_reason_with_its_files() -> None:
    close = [row(label, 0.5, name=f"c{label}") | {"reason": f"The score 0.5{label} is too close."} for label in (0, 1)]
    found = report([*close, row(1, None, "failed", name="bad") | {"reason": "no picture", "error": "undecodable"}])
    first, second = found["outcomes"]
    assert first == {
        "outcome": "inconclusive", "reason": "The score … is too close.", "count": 2, "real": 1, "fake": 1,
        "paths": ["c0", "c1"],
    }  # fmt: skip
    assert (second["outcome"], second["reason"], second["paths"]) == ("failed", "no picture", ["bad"])
    assert found["detector_coverage"]["a"] == {"scored": 2, "failed": 1}


def test_each_detector_is_compared_with_the_fused_score_on_the_same_files() -> None:
    rng = np.random.default_rng(0)
    rows = [row(i % 2, float(np.clip(rng.normal(0.4 + 0.2 * (i % 2), 0.1), 0, 1)), name=str(i)) for i in range(60)]
    for one in rows:
        one["detectors"]["noise"] = float(rng.uniform())
    del rows[0]["detectors"]["noise"]
    paired = report(rows)["paired"]
    assert paired["noise"]["n"] == 59 and paired["noise"]["high"] < 0 and paired["noise"]["p"] < 0.01
    assert paired["a"]["difference"] == 0 and paired["a"]["p"] is None


def test_one_class_or_nothing_at_all_gives_a_report_too() -> None:
    for rows in ([row(1, 0.9, "fake")] * 3, [row(0, None, "failed")], []):
        found = report(rows)
        assert found["overall"]["auc"]["value"] is None and json.loads(to_json(found))["scores"] == rows


def test_levels_can_be_chosen() -> None:
    rows = [row(0, 0.1, frames=(0.1,)), row(1, 0.9, frames=(0.9,))]
    assert set(report(rows)["levels"]) == {"frame", "clip", "track", "video"}
    found = report(rows, levels=["track"])
    assert set(found["levels"]) == {"track"} and found["overall"]["auc"]["value"] == 1.0


def test_a_thousand_files_take_seconds() -> None:
    rng = np.random.default_rng(0)
    rows = [
        row(i % 2, float(rng.uniform()), name=str(i), dataset=f"d{i % 5}", method="m" * (i % 2)) for i in range(1000)
    ]
    start = time.process_time()
    report(rows, levels=["video"])
    assert time.process_time() - start < 30


def test_the_most_suspicious_face_speaks_for_a_detector() -> None:
    face = {"track": 0, "times": (0, 1), "frames": 9, "box": (0, 0, 1, 1), "boxes": [], "box_times": []}
    detector = {"status": "ok", "weights": "w"}
    result = AnalysisResult.model_validate(
        {
            "schema": "unmask.result/1",
            "media": {
                "name": "n", "sha256": "s", "kind": "image", "container": "c", "codec": "c", "width": 1, "height": 1,
                "fps": None, "duration_s": None, "frames_analysed": 1,
            },
            "verdict": "real", "score": 0.1, "interval": (0.0, 0.2), "threshold": 0.5, "reasons": [],
            "faces": [
                {**face, "detectors": {"a": {**detector, "score": 0.2, "logit": -1.4}}},
                {**face, "detectors": {"a": {**detector, "score": 0.7, "logit": 0.8}, "b": {"status": "failed"}}},
            ],
        }
    )  # fmt: skip
    assert detector_scores(result) == {"detectors": {"a": 0.7}, "logits": {"a": 0.8}}


@pytest.fixture(scope="module")
def stages() -> LocalStages:
    return LocalStages()


def sample_items(folder: Path) -> list[Item]:
    (folder / "text.jpg").write_text("no picture")
    return [
        Item(SAMPLES / "astronaut-real.jpg", 0, "samples"),
        Item(SAMPLES / "astronaut-fake.jpg", 1, "samples", "blend"),
        Item(folder / "text.jpg", 1, "samples", "blend"),
        Item(folder / "gone.jpg", 0, "samples"),
        Item(SAMPLES / "astronaut-real.jpg", 0, "samples", sha256="0" * 64),
    ]


def test_files_are_analysed_kept_perturbed_and_counted(
    stages: LocalStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, int]] = []
    kept = tmp_path / "kept"

    def run(jobs: int) -> dict:
        return evaluate(
            sample_items(tmp_path),
            stages,
            Settings(detectors=("mesonet", "lrnet")),
            lambda *one: seen.append(one),
            perturb=["blur"],
            jobs=jobs,
            save=kept,
        )

    found = run(1)
    assert (found["items"], found["partial"], seen[-1]) == (5, False, ("figures", 20, 20))
    errors = {one["error"]: one["reason"] for one in found["scores"] if "error" in one}
    assert set(errors) == {"unsupported", "missing", "changed"}
    first = found["scores"][0]
    assert first["faces"][0]["quality"] is not None and first["logits"] and first["sha256"]
    assert found["detectors"]["mesonet"]["unit"] == "frame" and found["detectors"]["lrnet"]["unit"] == "clip"
    assert list(found["robustness"]["blur"]) == ["blur-1", "blur-2", "blur-3"]
    cell = found["robustness"]["blur"]["blur-3"]
    assert cell["items"] == 5 and cell["coverage"]["value"] <= 0.4 and "Gaussian" in cell["description"]
    written = json.loads(to_json(found))
    assert list(written["perturbed_scores"]) == ["blur-1", "blur-2", "blur-3"]
    assert [one["score"] for one in written["scores"]] == [one["score"] for one in found["scores"]]
    assert [one["path"] for one in written["perturbed_scores"]["blur-2"]] == [one["path"] for one in found["scores"]]
    assert found["coverage"]["n"] == 5 and found["fitted_on_these"] == 0

    # Nothing that was kept is analysed again, and two jobs give what one gave.
    monkeypatch.setattr(measuring, "analyse_file", lambda *_: pytest.fail("analysed again"))
    (tmp_path / "text.jpg").unlink()
    again = run(2)
    assert [one["score"] for one in again["scores"]] == [one["score"] for one in found["scores"]]
    assert again["robustness"]["blur"]["blur-2"]["overall"] == found["robustness"]["blur"]["blur-2"]["overall"]


def test_an_interrupted_run_reports_what_it_has(stages: LocalStages, tmp_path: Path) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    found = evaluate(sample_items(tmp_path)[:2], stages, Settings(detectors=("mesonet",)), stop, perturb=["blur"])
    assert (found["items"], found["planned"], found["partial"]) == (1, 2, True)
    assert found["robustness"] == {"blur": {}} and found["overall"]["auc"]["value"] is None


def test_an_unknown_suite_is_refused_before_any_analysis(stages: LocalStages) -> None:
    with pytest.raises(PerturbationError, match="did you mean 'social'"):
        evaluate([Item(SAMPLES / "astronaut-real.jpg", 0)], stages, perturb=["socail"])
