"""Rows of evaluations as arrays: who is whose source, and what each file weighs."""

import json

import numpy as np
import pytest
from simulated_evaluations import DETECTORS, evaluation

from detectors.aggregate import Aggregation
from train.examples import BadRows, examples, folds, read_rows, sources


def row(path: str, label: int, data_set: str = "x", **more: object) -> dict:
    return {"path": path, "label": label, "dataset": data_set, "logits": {"good": float(label)}, **more}


def test_no_source_lies_in_two_folds_and_both_classes_are_spread() -> None:
    made = examples(evaluation(200, 20), DETECTORS)
    fold = folds(made, 5)
    assert set(fold.tolist()) == {0, 1, 2, 3, 4}
    for source in np.unique(made.source):
        assert len(set(fold[made.source == source].tolist())) == 1
    assert all(set(made.label[fold == number].tolist()) == {0, 1} for number in range(5))


def test_a_source_is_what_is_given_a_small_data_set_or_a_name_of_a_large_one() -> None:
    small = [row("a/1.mp4", 0, "little"), row("a/2.mp4", 1, "little"), row("b/3.mp4", 0, "other", source="Ada")]
    large = [row(f"real/{n}.jpg", 0, "big") for n in range(61)] + [row("fake/7.png", 1, "big")]
    found = sources([*small, *large])
    assert found[0] == found[1] != found[2] == "given/Ada"
    assert found[3 + 7] == found[-1] and len(set(found[3:])) == 61


def test_both_classes_weigh_the_same_and_no_large_data_set_dominates() -> None:
    rows = [row(f"{n}.mp4", 0, "big") for n in range(400)] + [row(f"s{n}.mp4", 0, "little") for n in range(4)]
    rows += [row(f"f{n}.mp4", 1, "fakes") for n in range(9)]
    made = examples(rows, ["good"])
    mass = made.mass()
    assert mass[made.label == 0].sum() == pytest.approx(mass[made.label == 1].sum())
    big, little = mass[:400].sum(), mass[400:404].sum()
    assert big / little == pytest.approx(10)
    assert mass.sum() < 2 * 9 * 2, "no more than what the rarer class can say"


def test_all_tracks_of_a_real_file_are_real_and_only_the_longest_of_a_fake_one_is_fitted_on() -> None:
    tracks = [{"frames": n, "logits": {"good": float(n)}, "quality": {}} for n in (10, 90)]
    made = examples([row("r.mp4", 0, tracks=tracks), row("f.mp4", 1, tracks=tracks)], ["good"])
    assert made.file.tolist() == [0, 0, 1, 1] and made.fits.tolist() == [True, True, True, False]
    assert made.logits[:, 0].tolist() == [90, 10, 90, 10]
    assert made.mass()[:2].sum() == pytest.approx(made.mass()[2:].sum()) and made.mass()[3] == 0


def test_a_missing_score_stays_missing_and_frames_are_pooled_where_it_is_asked_for() -> None:
    rows = evaluation(40, 4, missing=0.5)
    made = examples(rows, DETECTORS)
    assert 0.2 < np.isnan(made.logits[:, 0]).mean() < 0.8
    pooled = examples(rows, ["good"], aggregations={"good": Aggregation(kind="top", share=0.1)})
    assert pooled.logits[0, 0] == max(rows[0]["tracks"][0]["frame_logits"]["good"])


def test_reports_are_read_each_file_once_and_another_file_is_named(tmp_path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(json.dumps({"scores": evaluation(4, 2)}))
    assert len(read_rows([tmp_path / "one", tmp_path / "two"])) == 4
    (tmp_path / "bad").write_text("[]")
    with pytest.raises(BadRows, match=r"bad is no report of `unmask evaluate"):
        read_rows([tmp_path / "bad"])


def test_one_class_or_one_source_cannot_be_fitted_on() -> None:
    with pytest.raises(BadRows, match="real and fake"):
        examples(evaluation(10, 2, label=1), DETECTORS)
    with pytest.raises(BadRows, match="all real files are of one source"):
        folds(examples([row("a.mp4", 0), row("b.mp4", 1), row("c.mp4", 1, "y")], ["good"]), 5)
