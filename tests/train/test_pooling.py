"""The pooling of frames is chosen where the evidence is clear, and left alone where it is not."""

import json

import numpy as np
import pytest

from train.examples import BadRows
from train.pooling import OWN, chosen, compare


def rows(files: int, swapped: float, alike: bool = False) -> list[dict]:
    """Videos of twenty frames; in a fake one a share `swapped` of them is suspicious. `alike`: the frames of a video
    differ by chance alone."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(files):
        label = number % 2
        frames = rng.normal(0, 0.6, 20) + rng.normal(0, 1.0 if alike else 0.3)
        if alike:
            frames += label
        elif label:
            frames[: int(20 * swapped)] += 3.0
        logits = {"a": float(frames.mean())}
        track = {"frames": 20, "logits": logits, "quality": {}, "frame_logits": {"a": frames.tolist()}}
        made.append({"path": f"{number}.mp4", "label": label, "dataset": f"set {number % 17}", "tracks": [track]})
    return made


def test_where_few_frames_are_manipulated_the_highest_are_pooled() -> None:
    found = compare(rows(120, swapped=0.1), ["a"])["a"]
    assert found["chosen"] is not None and found["chosen"]["kind"] == "top"
    own, best = found["poolings"][OWN], found["poolings"]["top 0.1"]
    assert best["log_loss"] < own["log_loss"] and best["gain"]["low"] > 0 and best["auc"] > own["auc"]
    assert found["picked_blindly"] < own["log_loss"]


def test_where_all_frames_are_alike_the_methods_own_way_stays() -> None:
    found = compare(rows(120, swapped=1.0, alike=True), ["a"])["a"]
    assert found["chosen"] is None and found["poolings"][OWN]["gain"]["value"] == 0


def test_a_detector_without_frames_is_not_compared() -> None:
    found = compare([{**row, "tracks": [{"logits": {"a": 1.0}, "frames": 1}]} for row in rows(20, 0.5)], ["a"])["a"]
    assert found["chosen"] is None and "real and fake" in found["why"]


def test_choices_are_read_back_and_another_file_is_named(tmp_path) -> None:
    report = tmp_path / "pooling.json"
    report.write_text(json.dumps({"a": {"chosen": {"kind": "top", "share": 0.1}}, "b": {"chosen": None}}))
    assert {name: str(how) for name, how in chosen(report).items()} == {"a": "top 0.1"}
    report.write_text('{"a": {"chosen": {"kind": "mode"}}}')
    with pytest.raises(BadRows, match=r"no report of .* aggregate"):
        chosen(report)
