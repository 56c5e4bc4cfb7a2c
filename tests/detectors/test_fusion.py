"""Fusion: a calibrated stacker that tolerates missing detectors and knows how sure it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.fusion import FusionModel, fit_fusion, fit_platt, fuse, load_fusion, logit

SCORES = st.floats(0, 1)


def synthetic(n: int, seed: int = 0) -> tuple[list[dict[str, float]], list[int]]:
    """Two informative detectors and one that guesses."""
    rng = np.random.default_rng(seed)
    labels = [int(i % 2) for i in range(n)]
    rows = []
    for label in labels:
        sign = 2 * label - 1
        values = {"good": rng.normal(2 * sign, 1), "fair": rng.normal(sign, 1), "guess": rng.normal(0, 1)}
        rows.append({name: float(1 / (1 + np.exp(-v))) for name, v in values.items()})
    return rows, labels


@pytest.fixture(scope="module")
def model() -> FusionModel:
    rows, labels = synthetic(200)
    return fit_fusion(rows, labels, fitted_on="synthetic", for_weights={"good": "a", "fair": "b", "guess": "c"})


def test_the_better_detector_gets_the_larger_weight(model: FusionModel) -> None:
    assert model.weights["good"] > model.weights["guess"]
    assert all(weight >= 0 for weight in model.weights.values())


def test_fused_scores_separate_fresh_examples(model: FusionModel) -> None:
    rows, labels = synthetic(400, seed=1)
    fused = [fuse(model, row) for row in rows]
    right = [(f is not None and f.score >= 0.5) == bool(label) for f, label in zip(fused, labels, strict=True)]
    assert np.mean(right) > 0.95


@given(good=SCORES, fair=SCORES)
def test_the_score_lies_in_its_interval_and_the_contributions_add_up(good: float, fair: float) -> None:
    fitted = FusionModel(
        weights={"good": 0.9, "fair": 0.4},
        bias=0.2,
        bootstrap=[[0.5, 0.6, 0.0], [1.2, 0.1, 0.5]],
        fitted_on="",
        n=0,
        for_weights={},
    )
    found = fuse(fitted, {"good": good, "fair": fair})
    assert found is not None
    assert 0 <= found.interval[0] <= found.score <= found.interval[1] <= 1
    assert logit(found.score) == pytest.approx(
        np.clip(sum(found.contributions.values()) + fitted.bias, -8, 8), abs=1e-6
    )


@given(low=SCORES, high=SCORES)
def test_more_suspicion_never_lowers_the_fused_score(low: float, high: float) -> None:
    low, high = sorted((low, high))
    fitted = FusionModel(weights={"a": 0.7, "b": 0.2}, bias=0.1, bootstrap=[], fitted_on="", n=0, for_weights={})
    lower, upper = fuse(fitted, {"a": low, "b": 0.5}), fuse(fitted, {"a": high, "b": 0.5})
    assert lower is not None and upper is not None and lower.score <= upper.score


def test_a_missing_detector_is_tolerated_and_a_silent_panel_gives_nothing(model: FusionModel) -> None:
    alone = fuse(model, {"good": 0.99})
    assert alone is not None and alone.score > 0.5 and set(alone.contributions) == {"good"}
    assert fuse(model, {}) is None
    assert fuse(model, {"never heard of": 0.9}) is None


def test_few_data_give_a_wider_interval() -> None:
    few = fit_fusion(*synthetic(12), fitted_on="", for_weights={})
    many = fit_fusion(*synthetic(1200), fitted_on="", for_weights={})
    row = {"good": 0.8, "fair": 0.3, "guess": 0.6}
    narrow, wide = fuse(many, row), fuse(few, row)
    assert narrow is not None and wide is not None
    assert wide.interval[1] - wide.interval[0] > narrow.interval[1] - narrow.interval[0]


def test_fitting_refuses_one_class_and_reads_back_what_it_wrote(tmp_path, model: FusionModel) -> None:
    with pytest.raises(ValueError, match="both real and fake"):
        fit_fusion([{"a": 0.5}], [1], fitted_on="", for_weights={})
    file = tmp_path / "fusion.json"
    file.write_text(model.model_dump_json())
    assert load_fusion(file) == model
    assert load_fusion(tmp_path / "none.json") is None


def test_platt_recovers_a_known_scale_and_keeps_the_direction() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 4000)
    labels = (rng.random(4000) < 1 / (1 + np.exp(-(0.5 * logits + 0.0)))).astype(int)
    a, b = fit_platt(list(logits), list(labels))
    assert a == pytest.approx(0.5, abs=0.06) and b == pytest.approx(0, abs=0.1)
    reversed_a, _ = fit_platt([-v for v in logits], list(labels))
    assert reversed_a == 0
