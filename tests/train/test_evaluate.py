"""Reading labelled media and turning scores into a report."""

import json
from pathlib import Path

import pytest

from detectors.fusion import load_fusion
from detectors.registry import create
from detectors.result import AnalysisResult
from detectors.store import find, save
from train.calibrate import calibrate, main
from train.evaluate import Item, detector_scores, read_items, report

MANIFEST = "path,label,split,dataset,sha256\na.mp4,real,dev,x,0aa\nb.mp4,fake,dev,x,1bb\nc.jpg,1,train,y,2cc\n"


def write(folder: Path, text: str) -> Path:
    file = folder / "MANIFEST.csv"
    file.write_text(text)
    return file


def test_a_manifest_is_read_and_filtered(tmp_path: Path) -> None:
    file = write(tmp_path, MANIFEST)
    assert [item.label for item in read_items(file)] == [0, 1, 1]
    assert [item.path.name for item in read_items(tmp_path, split="dev")] == ["a.mp4", "b.mp4"]
    assert [item.path.name for item in read_items(file, sha_prefix="02")] == ["a.mp4", "c.jpg"]
    assert [item.path.name for item in read_items(file, without=["x"])] == ["c.jpg"]


def test_folders_named_real_and_fake_are_a_data_set(tmp_path: Path) -> None:
    for name in ("real/p/1.jpg", "fake/2.MP4", "fake/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [(item.path.name, item.label) for item in read_items(tmp_path)] == [("1.jpg", 0), ("2.MP4", 1)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,label\na,real\n", "needs the columns path and label, has file, label"),
        ("path,label\na.mp4,maybe\n", "line 2: label 'maybe'"),
        ("path,label\n", "no labelled media found"),
    ],
)
def test_a_wrong_manifest_says_what_is_wrong(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_items(write(tmp_path, text))


def row(label: int, score: float | None, verdict: str = "inconclusive", dataset: str = "x") -> dict:
    logits = {} if score is None else {"a": 4 * score - 2}
    detectors = {} if score is None else {"a": score}
    return {
        "path": "p", "label": label, "dataset": dataset, "method": "", "score": score, "verdict": verdict,
        "detectors": detectors, "logits": logits, "threshold": 0.5,
    }  # fmt: skip


def test_a_file_without_a_score_lowers_coverage_and_nothing_else() -> None:
    found = report([row(0, 0.1, "real"), row(1, 0.9, "fake"), row(0, None, "no_face")])
    assert found["coverage"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["overall"]["auc"]["value"] == 1.0 and found["overall"]["accuracy"]["n"] == 2
    assert found["verdicts"] == {"real": {"no_face": 1, "real": 1}, "fake": {"fake": 1}}
    assert found["by_detector"]["a"]["auc"]["value"] == 1.0 and set(found["by_dataset"]) == {"x"}


def test_calibration_needs_both_classes_and_states_its_n() -> None:
    rows = [row(label, 0.2 + 0.6 * label) for label in (0, 1) * 10]
    found = calibrate(rows, ["a", "b"], "test rows")
    assert set(found) == {"a"} and found["a"].n == 20 and found["a"].a > 0
    assert calibrate([row(1, 0.9)], ["a"], "one class") == {}


def test_the_command_writes_calibrations_and_a_fusion_for_these_weights(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("UNMASK_WEIGHTS", str(tmp_path / "store"))
    card = save(
        create("mesonet"), tmp_path / "store", profile="compact", name="test", licence="none", data="none",
        command="none", date="2026-01-01",
    )  # fmt: skip
    rows = [{"logits": {"mesonet": 3.0 * label - 1}, "label": label} for label in (0, 1) * 8]
    (tmp_path / "report.json").write_text(json.dumps({"scores": rows}))
    main([str(tmp_path / "report.json"), "--data-name", "a test", "--out", str(tmp_path / "fusion.json")])
    fusion = load_fusion(tmp_path / "fusion.json")
    calibration = find("mesonet").card.calibration
    assert fusion is not None and fusion.for_weights == {"mesonet": card.sha256} and fusion.n == 16
    assert calibration is not None and calibration.a > 0 and calibration.fitted_on == "a test"
    assert "n = 16" in capsys.readouterr().out


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


def test_an_item_without_a_digest_reads_its_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert Item(tmp_path / "x", 0).digest().startswith("ba7816bf")
