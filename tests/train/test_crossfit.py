"""Cross-fitted figures: honest where there is nothing to find, right where there is."""

import json

import numpy as np
import pytest
from simulated_evaluations import DETECTORS, evaluation

from train.crossfit import crossfit
from train.examples import examples
from train.fitting import MEAN, Options, answer, fit

FAST = Options(resamples=15)


@pytest.fixture(scope="module")
def report() -> dict:
    reserved = evaluation(150, 30, seed=7, label=0)
    unseen = examples([], DETECTORS, evaluation(30, 3, seed=9, label=1))
    return crossfit(examples(evaluation(240, 30, missing=0.2), DETECTORS, reserved), FAST, apart=unseen)


def test_the_fused_score_is_compared_with_each_detector_on_its_own_files(report: dict) -> None:
    assert report["auc"]["value"] > 0.85 and report["auc"]["low"] < report["auc"]["value"] < report["auc"]["high"]
    assert set(report["against"]) == {*DETECTORS, MEAN}
    guess, good = report["against"]["guess"], report["against"]["good"]
    assert guess["difference"]["low"] > 0.2 and guess["auc"]["n"] < 240 == good["auc"]["n"]
    for one in report["against"].values():
        assert one["difference"]["value"] == pytest.approx(one["fused"]["value"] - one["auc"]["value"], abs=2e-6)
    best = report["best_single"]
    assert best["name"] == "good" and best["difference"]["n"] == 240
    assert best["difference"]["low"] > -0.05


def test_reserved_real_files_count_in_the_false_alarms_alone(report: dict) -> None:
    assert report["files"] == 240 and report["without_a_score"] == 0
    alarms = report["false_alarms"]["all real files"]
    assert alarms["n"] == 120 + 150 and alarms["low"] <= 0.02
    assert sum(sum(counts.values()) for counts in report["verdicts"].values()) == 240


def test_the_risk_of_the_decided_is_near_what_was_asked_and_many_faces_raise_no_alarm(report: dict) -> None:
    assert report["decided"]["coverage"] > 0.3 and report["decided"]["wrong"]["low"] <= 0.05
    assert all(report["faces"][count]["joined"] <= 0.03 for count in ("1", "3", "10"))
    assert report["faces"]["10"]["maximum"] > report["faces"]["10"]["joined"]


def test_data_sets_that_no_fit_saw_are_told_apart(report: dict) -> None:
    apart = report["apart"]
    assert len(apart) == 4 and apart["all"]["fakes"] == 30 and apart["all"]["n"] == 150
    assert apart["all"]["value"] > 0.8 and sum(apart["all"]["verdicts"].values()) == 30
    assert not any("set 9" in name for name in [*report["by_dataset"], *report["verdicts"]])


def _turned(track: dict) -> dict:
    return track | {"logits": {name: -value for name, value in track["logits"].items()}}


def test_perturbed_files_are_judged_by_the_fit_that_did_not_see_them(report: dict) -> None:
    rows = evaluation(150, 30, seed=3)
    made = examples(rows, DETECTORS)
    turned = [row | {"tracks": [_turned(track) for track in row["tracks"]]} for row in rows]
    steps = {"nothing": made, "turned": examples([], DETECTORS, turned), "few": examples([], DETECTORS, rows[:10])}
    found = crossfit(made, FAST, perturbed=steps)
    nothing, turned_over, few = found["robustness"].values()
    for kind, one in nothing.items():
        assert one["auc"] == found["by_kind"][kind]
    assert sum(one["false_alarms"]["n"] for one in nothing.values()) == found["false_alarms"]["all real files"]["n"]
    assert max(one["auc"]["value"] or 0 for one in turned_over.values()) < 0.3
    assert sum(one["fakes_found"]["n"] + one["false_alarms"]["n"] for one in few.values()) == 10


def test_it_is_json_and_names_every_file_with_the_fold_that_did_not_see_it(report: dict) -> None:
    rows = json.loads(json.dumps(report))["scores"]
    assert len(rows) == 390 and {row["fold"] for row in rows} == set(range(5))
    sets: dict[str, set[int]] = {}
    for row in rows[:240]:
        sets.setdefault(row["path"].split("/")[0], set()).add(row["fold"])
    assert all(len(found) == 1 for found in sets.values())


def test_labels_by_chance_give_an_auc_by_chance_though_the_fit_itself_looks_better() -> None:
    rng = np.random.default_rng(0)
    rows = [{**row, "label": int(rng.integers(2))} for row in evaluation(80, 40)]
    made = examples(rows, DETECTORS)
    assert crossfit(made, FAST)["auc"]["low"] < 0.5
    assert len(answer(fit(made, FAST), made)) == 80
