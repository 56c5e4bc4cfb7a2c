"""What a card says of its detector is what the reports hold, group by group."""

import json
import math
from pathlib import Path

import pytest

from detectors.store import Calibration, Metric, read_manifest
from train import card_metrics
from train.card_metrics import (
    ANIMATION,
    RESERVED,
    SWAPS,
    WITHHELD,
    calibrated,
    main,
    of_development,
    of_reals,
    replaced,
)


def row(label: int, score: float, dataset: str = "ayhm23", kind: str = "video", number: int = 0) -> dict:
    name = f"{dataset}-{label}-{score}-{number}"
    logits = {"one": math.log(score / (1 - score))}
    return {
        "path": name, "sha256": name, "identity": "", "method": "", "dataset": dataset, "label": label, "kind": kind,
        "detectors": {"one": score}, "logits": logits, "faces": [], "score": None, "verdict": "inconclusive",
    }  # fmt: skip


ROWS = [
    *(row(0, 0.1 + n / 100, number=n) for n in range(5)),
    *(row(1, 0.8 + n / 100, number=n) for n in range(5)),
    *(row(1, 0.01, "fomm_miljandv", number=n) for n in range(3)),
    row(1, 0.9, kind="image"),
]


def test_animated_heads_are_told_apart() -> None:
    found = {metric.set: metric for metric in of_development(ROWS, "one")}
    assert found[SWAPS].value == 1 and found[SWAPS].n == 10 and "5 fake, 5 real" in found[SWAPS].note
    assert found[ANIMATION].value == 0 and found[ANIMATION].n == 8
    assert not any("stills" in name for name in found), "one class alone has no AUC"


def test_scores_are_those_of_the_calibration_that_the_card_has_now() -> None:
    (one, *_) = calibrated(ROWS, "one", Calibration(a=2.0, b=1.0, fitted_on="", n=1))
    assert one["detectors"]["one"] == pytest.approx(1 / (1 + math.exp(-(2 * math.log(0.1 / 0.9) + 1))))
    assert calibrated(ROWS, "two", None) == [], "a detector that said nothing"
    plain = calibrated(ROWS, "one", None)
    assert [row["detectors"]["one"] for row in plain] == pytest.approx([row["detectors"]["one"] for row in ROWS])


def test_alarms_are_counted_among_real_stills_alone() -> None:
    found = of_reals([*(row(0, score, kind="image") for score in (0.1, 0.6, 0.95, 0.2)), row(1, 0.99)], "one")
    assert [(metric.set, metric.value, metric.n) for metric in found] == [(RESERVED, 0.5, 4), (RESERVED, 0.25, 4)]
    assert of_reals(ROWS, "two") == []


def test_the_training_s_own_figures_stay_and_all_others_are_replaced() -> None:
    before = [Metric(set=name, metric="AUC", value=0.5, n=1) for name in ("validation", SWAPS, "an older set")]
    new = Metric(set=SWAPS, metric="AUC", value=0.9, n=2)
    assert [(one.set, one.value) for one in replaced(before, [new])] == [("validation", 0.5), (SWAPS, 0.9)]


def test_a_detector_without_weights_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, withheld = tmp_path / "report.json", tmp_path / "withheld.json"
    report.write_text(json.dumps({"scores": ROWS}))
    withheld.write_text(json.dumps({"families": [], "detectors": {}}))
    files = ["--dev", str(report), "--reals", str(report), "--withheld", str(withheld)]
    assert main(["nobody", *files]) == 2 and "nobody has no weights" in capsys.readouterr().err
    assert main(["--dev", str(tmp_path / "none.json"), *files[2:]]) == 2


def test_the_manifest_has_the_figures_of_the_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from detectors.store import export

    card = export("mesonet", "compact", tmp_path / "store")
    monkeypatch.setenv("UNMASK_WEIGHTS", str(tmp_path / "store"))
    rows = [one | {"logits": {"mesonet": one["logits"]["one"]}, "detectors": {}} for one in ROWS]
    report, withheld = tmp_path / "report.json", tmp_path / "withheld.json"
    report.write_text(json.dumps({"scores": rows, "perturbed_scores": {"jpeg-5": rows, "h264-3": rows[:0]}}))
    figures = {"auc": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 1000}, "ece": {"value": None}}
    withheld.write_text(json.dumps({"families": ["swap_poisson"], "detectors": {"mesonet": figures}}))
    assert main(["mesonet", "--dev", str(report), "--reals", str(report), "--withheld", str(withheld)]) == 0
    (changed,) = read_manifest(tmp_path / "store")
    assert changed.sha256 == card.sha256 and changed.calibration == card.calibration
    sets = [one.set for one in changed.metrics]
    assert f"{WITHHELD} (swap_poisson)" in sets and SWAPS in sets
    assert sets.count(RESERVED) == 2 * len(card_metrics.ALARMS), "as they are, and as JPEG"
    assert {one.set for one in changed.metrics if one.perturbation == "jpeg-5"} == {SWAPS, RESERVED}
    assert [one for one in changed.metrics if one.set == "validation"] == [
        one for one in card.metrics if one.set == "validation"
    ]
