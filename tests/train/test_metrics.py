"""The figures against values worked out by hand and against their own definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.metrics import auc, bootstrap, equal_error_rate, expected_calibration_error, proportion, summary


def test_auc_counts_ties_as_half() -> None:
    assert auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.5, 0.5, 0.9])) == pytest.approx(0.875)


def test_equal_error_rate_of_known_rankings() -> None:
    assert equal_error_rate(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])) == pytest.approx(0.0)
    assert equal_error_rate(np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4])) == pytest.approx(0.5)
    assert equal_error_rate(np.array([1, 1, 0, 0]), np.array([0.1, 0.2, 0.8, 0.9])) == pytest.approx(1.0)


def test_calibration_error_of_an_overconfident_score() -> None:
    labels, scores = np.array([0.0, 1.0] * 50), np.full(100, 0.95)
    assert expected_calibration_error(labels, scores) == pytest.approx(0.45)
    assert expected_calibration_error(labels, labels) == pytest.approx(0.0)


@given(hits=st.integers(0, 200), misses=st.integers(0, 200))
def test_a_proportion_lies_in_its_interval(hits: int, misses: int) -> None:
    found = proportion(hits, hits + misses)
    if hits + misses == 0:
        assert found.value is None
    else:
        assert found.low is not None and found.high is not None and found.value is not None
        assert 0 <= found.low <= found.value + 1e-12 and found.value - 1e-12 <= found.high <= 1


def test_wilson_interval_matches_the_textbook() -> None:
    found = proportion(1, 20)
    assert (found.low, found.high) == pytest.approx((0.0089, 0.2361), abs=1e-4)


def test_the_bootstrap_interval_is_seeded_and_narrows_with_data() -> None:
    rng = np.random.default_rng(0)

    def width(n: int) -> float:
        labels = np.arange(n) % 2
        found = bootstrap(auc, labels, rng.normal(labels, 1), resamples=200)
        assert found.low is not None and found.high is not None and found.low <= found.value <= found.high
        return found.high - found.low

    assert width(400) < width(20)
    labels, scores = [0, 1, 0, 1, 1], [0.2, 0.8, 0.6, 0.4, 0.9]
    assert bootstrap(auc, labels, scores) == bootstrap(auc, labels, scores)


def test_one_class_alone_gives_no_auc_but_still_a_false_alarm_rate() -> None:
    found = summary([0, 0, 0, 0], [0.1, 0.2, 0.9, 0.3], threshold=0.5)
    assert found["auc"].value is None and "not defined" in str(found["auc"])
    assert found["fpr_at_threshold"].value == pytest.approx(0.25) and found["fpr_at_threshold"].n == 4
