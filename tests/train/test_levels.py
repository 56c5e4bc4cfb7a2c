"""Rows as frames, clips, tracks and videos; groups and the reals that they are held against."""

import numpy as np
import pytest
from evaluation_rows import row

from train.levels import examples, level_figures, names_at

UNITS = {"a": "frame", "b": "clip"}
ROWS = [
    row(0, 0.1, name="r1", dataset="x", frames=(0.1, 0.2), clips=(0.3,)),
    row(0, 0.6, name="r2", dataset="x", frames=(0.5,), identity="p"),
    row(0, 0.3, name="r3", dataset="y", identity="p"),
    row(1, 0.8, name="f1", dataset="x", method="swap", frames=(0.9, 0.7), clips=(0.6, 0.9)),
    row(1, 0.4, name="f2", dataset="z", method="talk", frames=(0.4,)),
    row(1, None, "no_face", name="f3", dataset="z", method="talk"),
]


def test_each_level_has_its_examples() -> None:
    assert examples(ROWS, "video").scores.tolist() == [0.1, 0.6, 0.3, 0.8, 0.4]
    assert examples(ROWS, "track").scores.tolist() == [0.1, 0.6, 0.3, 0.8, 0.4]
    assert examples(ROWS, "frame", "a").scores.tolist() == [0.1, 0.2, 0.5, 0.9, 0.7, 0.4]
    assert examples(ROWS, "clip", "b").labels.tolist() == [0, 1, 1]
    assert len(examples(ROWS, "frame")) == 0, "frames are not fused"
    assert names_at("frame", UNITS) == ["a"] and names_at("clip", UNITS) == ["b"]
    assert names_at("video", UNITS) == ["fused", "a", "b"]


def test_a_detector_that_failed_on_a_face_has_no_example_of_it() -> None:
    bad = row(1, 0.9, frames=(0.9,))
    bad["faces"][0]["detectors"]["a"]["status"] = "out_of_domain"
    assert len(examples([bad], "track", "a")) == len(examples([bad], "frame", "a")) == 0
    assert len(examples([bad], "track")) == 1


def test_frames_of_a_video_and_videos_of_a_person_are_one_cluster() -> None:
    assert len(set(examples(ROWS, "frame", "a").clusters)) == 4
    people = [row(0, 0.1, name=n, identity="p") for n in ("u", "v")] + [row(0, 0.1, dataset="y", identity="p")]
    assert list(examples(people, "video").clusters) == ["x/p", "x/p", "y/p"]


def test_fakes_are_held_against_the_reals_of_their_set_else_all() -> None:
    found = level_figures(ROWS, "video", UNITS, 0.5)
    assert found["by_dataset"]["x"]["auc"]["n"] == 3 and found["by_method"]["swap"]["auc"]["n"] == 3
    assert found["by_dataset"]["z"]["auc"]["n"] == 4 and found["by_method"]["talk"]["auc"]["n"] == 4
    assert found["reals"]["by_dataset"] == {"x": "own", "y": "own", "z": "all"}
    assert found["reals"]["by_method"] == {"swap": "own", "talk": "all"}
    assert found["by_dataset"]["y"]["auc"]["value"] is None
    assert found["by_dataset"]["y"]["fpr_at_threshold"]["value"] == 0.0


def test_the_mean_over_sets_takes_sets_of_both_classes_and_misses_a_shift() -> None:
    # Each set ranks perfectly; pooled, the reals of one lie above the fakes of the other.
    rows = [row(label, base + 0.1 * label + i / 100, dataset=s, name=f"{s}{label}{i}")
            for s, base in (("u", 0.1), ("v", 0.6)) for label in (0, 1) for i in range(4)]  # fmt: skip
    found = level_figures(rows, "video", {"a": "frame"}, 0.5)
    assert found["mean_over_sets"]["fused"] == {"auc": 1.0, "sets": 2}
    assert found["overall"]["auc"]["value"] == pytest.approx(0.75)
    assert found["cross_dataset"]["a"]["u"]["auc"]["value"] == 1.0


def test_frame_figures_are_wide_as_their_videos_are_few() -> None:
    rng = np.random.default_rng(0)
    rows = [row(i % 2, 0.5, name=str(i), frames=tuple(rng.uniform(0.2, 0.7, 30) + 0.1 * (i % 2))) for i in range(6)]
    found = level_figures(rows, "frame", {"a": "frame"}, 0.5)
    area = found["by_detector"]["a"]["auc"]
    assert area["n"] == 180 and area["high"] - area["low"] > 0.5
    assert found["overall"] == {} and found["by_dataset"] == {}


def test_the_fused_score_is_cut_at_its_threshold_and_a_detector_at_even_odds() -> None:
    rows = [row(i % 2, 0.3 + 0.4 * (i % 2), name=str(i)) for i in range(8)]
    found = level_figures(rows, "video", {"a": "frame"}, 0.9)
    assert found["overall"]["accuracy"]["value"] == 0.5 and found["by_detector"]["a"]["accuracy"]["value"] == 1.0
    assert found["cross_dataset"]["fused"]["x"]["f1"]["value"] == 0.0
    assert found["cross_dataset"]["a"]["x"]["f1"]["value"] == 1.0
