"""The commands: fit writes calibrations and a fusion, crossfit and aggregate their reports."""

import json
from pathlib import Path

import pytest
from simulated_evaluations import evaluation

from detectors.fusion import fitted_overlap, load_fusion
from detectors.registry import create
from detectors.store import find, save
from train.calibrate import calibrate, digest, main


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's store with weights of two detectors that never gave these scores."""
    monkeypatch.setenv("UNMASK_WEIGHTS", str(tmp_path / "store"))
    for name in ("mesonet", "xception"):
        save(
            create(name), tmp_path / "store", profile="compact", name=name, licence="none", data="none",
            command="none", date="2026-01-01",
        )  # fmt: skip
    return tmp_path


def report(folder: Path, name: str = "report.json", **world: object) -> str:
    rows = evaluation(120, 20, **world)  # type: ignore[arg-type]
    names = {"good": "mesonet", "fair": "xception", "guess": "nobody"}
    text = json.dumps({"scores": rows})
    for old, new in names.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    (folder / name).write_text(text)
    return str(folder / name)


def in_use(store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fusion of this test's own in the place of the shipped one."""
    monkeypatch.setattr("train.calibrate.SHIPPED", store / "fusion.json")
    return store / "fusion.json"


def test_a_fit_elsewhere_is_a_trial_that_changes_no_card(store: Path, capsys) -> None:
    """Else the calibrations in use would have seen media of which the fusion in use, which is asked, knows nothing."""
    told = ["--data-name", "a trial", "--resamples", "5", "--out", str(store / "trial.json")]
    assert main(["fit", report(store), *told]) == 0
    assert load_fusion(store / "trial.json") is not None and find("mesonet").card.calibration is None
    assert "the calibrations in use stay as they are" in capsys.readouterr().out


def test_fit_writes_what_the_pipeline_reads_and_what_it_saw(
    store: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = in_use(store, monkeypatch)
    more = report(store, "more.json", seed=3, label=0)
    told = ["--data-name", "a test", "--resamples", "10", "--blind-to", "Puppets.", "--out", str(out)]
    assert main(["fit", report(store), "--more", more, *told]) == 0
    fusion, calibration = load_fusion(out), find("mesonet").card.calibration
    assert fusion is not None and calibration is not None and fusion.selection is not None
    assert fusion.for_weights["mesonet"] == find("mesonet").card.sha256 and fusion.blind_to == "Puppets."
    assert (fusion.n, fusion.selection.reals, fusion.selection.fakes) == (240, 180, 60)
    assert (calibration.n, calibration.reals, calibration.fakes, calibration.method) == (240, 180, 60, "platt")
    assert calibration.shares is not None and all(abs(sum(side) - 1) < 0.01 for side in calibration.shares)
    reals, fakes = ([share * (tenth + 0.5) / 10 for tenth, share in enumerate(side)] for side in calibration.shares)
    assert sum(reals) < sum(fakes), "what drift is measured against: the scores of each class by tenths"
    rows = evaluation(120, 20) + evaluation(120, 20, seed=3, label=0)
    assert calibration.saw == digest(row["sha256"] for row in rows)
    assert fitted_overlap([rows[0]["sha256"], "f" * 64], out) == [rows[0]["sha256"]]
    assert fusion.weights["mesonet"] > 0.3 and "lrnet" not in fusion.weights
    told_out = capsys.readouterr().out
    assert "fake from" in told_out and "lrnet: no scores of both classes" in told_out


def test_crossfit_and_aggregate_write_reports_and_change_nothing(store: Path, capsys) -> None:
    file = report(store)
    assert main(["aggregate", file, "--out", str(store / "pooling.json")]) == 0
    pooled = ["--aggregation", str(store / "pooling.json")]
    assert main(["crossfit", file, *pooled, "--resamples", "5", "--json", str(store / "crossfit.json")]) == 0
    assert json.loads((store / "crossfit.json").read_text())["auc"]["value"] > 0.8
    assert set(json.loads((store / "pooling.json").read_text())) >= {"mesonet", "xception"}
    assert find("mesonet").card.calibration is None
    assert "its own pooling" in capsys.readouterr().out


def test_a_chosen_pooling_goes_into_the_card(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (store / "pooling.json").write_text('{"mesonet": {"chosen": {"kind": "top", "share": 0.33}}}')
    told = ["--aggregation", str(store / "pooling.json"), "--data-name", "t", "--resamples", "5"]
    assert main(["fit", report(store), *told, "--out", str(in_use(store, monkeypatch))]) == 0
    card = find("mesonet").card.calibration
    assert card is not None and str(card.aggregation) == "top 0.33"
    # Compared again, on tracks that are pooled so now: it stays, and is not taken for the method's own.
    assert main(["aggregate", report(store), "--out", str(store / "again.json")]) == 0
    again = json.loads((store / "again.json").read_text())["mesonet"]
    assert card.aggregation is not None and again["chosen"] == card.aggregation.model_dump()
    assert "the card's top 0.33" in again["poolings"]


def test_media_of_one_class_or_a_wrong_file_end_with_a_sentence_and_code_2(store: Path, capsys) -> None:
    told = ["--data-name", "t", "--out", str(store / "fusion.json")]
    assert main(["fit", report(store, label=1), *told]) == 2
    assert "real and fake" in capsys.readouterr().err
    assert main(["fit", str(store / "none.json"), *told]) == 2
    assert "none.json is no report" in capsys.readouterr().err
    assert not (store / "fusion.json").exists()


def test_what_cannot_be_written_or_read_ends_with_a_sentence_and_code_2(store: Path, capsys) -> None:
    nowhere = str(store / "no/folder.json")
    assert main(["fit", report(store), "--data-name", "t", "--resamples", "5", "--out", nowhere]) == 2
    assert nowhere in capsys.readouterr().err
    (store / "store/manifest.json").write_text("{")
    assert main(["fit", report(store), "--data-name", "t", "--out", nowhere]) == 2
    assert "manifest.json cannot be read" in capsys.readouterr().err


def test_calibration_needs_both_classes_and_states_its_n() -> None:
    rows = evaluation(40, 8)
    found = calibrate(rows, ["good", "unheard"], "test rows")
    assert set(found) == {"good"} and found["good"].n == 40 and found["good"].a > 0
    assert calibrate(evaluation(10, 2, label=1), ["good"], "one class") == {}
    assert digest(["b", "a", "a"]) == digest(["a", "b"]) != digest(["ab"])
