"""The figures against values worked out by hand, against scikit-learn, and their intervals against simulated truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, roc_auc_score

from train.bootstrap import bootstrap_figures, cluster_weights
from train.metrics import (
    FIGURES,
    auc,
    equal_error_rate,
    expected_calibration_error,
    newcombe,
    proportion,
    summary,
    tpr_at_fpr,
)


def test_auc_counts_ties_as_half() -> None:
    assert auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.5, 0.5, 0.9])) == pytest.approx(0.875)


def test_equal_error_rate_of_known_rankings() -> None:
    assert equal_error_rate(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])) == pytest.approx(0.0)
    assert equal_error_rate(np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4])) == pytest.approx(0.5)
    assert equal_error_rate(np.array([1, 1, 0, 0]), np.array([0.1, 0.2, 0.8, 0.9])) == pytest.approx(1.0)


def test_the_rate_at_a_false_alarm_rate_never_exceeds_it() -> None:
    labels, scores = np.repeat([0, 1], [20, 4]), np.append(np.linspace(0, 0.6, 20), [0.5, 0.58, 0.59, 0.7])
    assert tpr_at_fpr(labels, scores, 0.01) == 0.25  # only above the highest real
    assert tpr_at_fpr(labels, scores, 0.05) == 0.75  # one real of twenty may lie above


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


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20), st.integers(0, 3)), min_size=2, max_size=40))
def test_each_resample_is_scikit_learn_with_its_weights(items: list[tuple[bool, int, int]]) -> None:
    labels = np.array([one[0] for one in items], float)
    scores, weights = np.array([one[1] for one in items]) / 20, np.array([one[2] for one in items], np.int32)
    kept = labels[weights > 0]
    if kept.sum() in (0, len(kept)):
        return
    found = bootstrap_figures(labels, scores, 0.5, 10, (weights[None], np.arange(len(items))))
    repeated = np.repeat(labels, weights), np.repeat(scores, weights)
    expected = {
        "auc": roc_auc_score(labels, scores, sample_weight=weights),
        "ap": average_precision_score(labels, scores, sample_weight=weights),
        "brier": brier_score_loss(labels, scores, sample_weight=weights),
        "f1": f1_score(labels, scores >= 0.5, sample_weight=weights),
        "accuracy": np.average((scores >= 0.5) == labels, weights=weights),
        "eer": equal_error_rate(*repeated),
        "tpr_at_1fpr": tpr_at_fpr(*repeated, 0.01),
        "tpr_at_5fpr": tpr_at_fpr(*repeated, 0.05),
        "ece": expected_calibration_error(*repeated),
        "fpr_at_threshold": (repeated[1] >= 0.5)[repeated[0] == 0].mean(),
    }
    assert set(found) == set(expected) == set(FIGURES)
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value, abs=1e-9), name


def test_a_resample_keeps_clusters_together_and_each_class_its_size() -> None:
    labels, groups = np.array([0, 0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 2, 2, 3, 4])
    drawn, reason = cluster_weights(labels, groups, 200, seed=0)
    assert drawn is not None and not reason
    weights, _ = drawn
    assert (weights[:, :2].sum(1) == 2).all() and (weights[:, 2:].sum(1) == 3).all()
    mixed, _ = cluster_weights(labels, np.array([0, 0, 1, 1, 2, 3, 4]), 200, seed=0)
    assert mixed is not None and (mixed[0].sum(1) == 5).all() and len(np.unique(mixed[0][:, :2].sum(1))) > 1


def test_resamples_give_the_standard_error_that_efron_and_tibshirani_print() -> None:
    # An Introduction to the Bootstrap (1993): table 3.1, 15 law schools, mean LSAT and GPA of their students; table 6.1
    # gives the correlation's standard error from 3,200 resamples.
    lsat = [576, 635, 558, 578, 666, 580, 555, 661, 651, 605, 653, 575, 545, 572, 594]
    gpa = [3.39, 3.30, 2.81, 3.03, 3.44, 3.07, 3.00, 3.43, 3.36, 3.13, 3.12, 2.74, 2.76, 2.88, 2.96]
    drawn, _ = cluster_weights(np.zeros(15), np.arange(15), 3200, seed=0)
    assert drawn is not None
    found = [np.cov(lsat, gpa, fweights=weights) for weights in drawn[0]]
    assert np.corrcoef(lsat, gpa)[0, 1] == pytest.approx(0.776, abs=5e-4)
    assert np.std([c[0, 1] / np.sqrt(c[0, 0] * c[1, 1]) for c in found]) == pytest.approx(0.132, abs=0.004)


def test_resampled_areas_spread_as_the_exact_bootstrap_of_published_ratings_does() -> None:
    # Hanley and McNeil (Radiology 143, 1982): ratings of 58 normal and 51 abnormal CT images. The variance over all
    # resamples that there are has a closed form, that of a two-sample U statistic of the empirical distributions.
    normal, abnormal = np.repeat(range(5), [33, 6, 6, 11, 2]), np.repeat(range(5), [3, 2, 2, 11, 33])
    wins = (abnormal[:, None] > normal) + 0.5 * (abnormal[:, None] == normal)
    area, (fakes, reals) = wins.mean(), wins.shape
    parts = (wins**2).mean() - area**2, wins.mean(1).var() * (reals - 1), wins.mean(0).var() * (fakes - 1)
    labels, ratings = np.repeat([0.0, 1.0], [58, 51]), np.append(normal, abnormal) / 4
    drawn, _ = cluster_weights(labels, np.arange(109), 20_000, seed=0)
    areas = bootstrap_figures(labels, ratings, 0.5, 10, drawn)["auc"]
    assert area == pytest.approx(0.8932, abs=5e-5) and areas.mean() == pytest.approx(area, abs=1e-3)
    assert areas.std() == pytest.approx(np.sqrt(sum(parts) / (fakes * reals)), rel=0.02)


def test_a_shares_percentiles_are_those_of_its_exact_bootstrap() -> None:
    # Of 40 videos 30 are right: a resample's number of right ones is binomial, 40 draws at 30 of 40.
    labels, scores = np.zeros(40), np.repeat([0.1, 0.9], [30, 10])
    drawn, _ = cluster_weights(labels, np.arange(40), 20_000, seed=0)
    shares = bootstrap_figures(labels, scores, 0.5, 10, drawn)["accuracy"]
    exact = binom(40, 0.75).ppf([0.025, 0.975]) / 40
    assert np.quantile(shares, [0.025, 0.975]) == pytest.approx(exact)


def test_the_interval_is_seeded_narrows_with_data_and_holds_its_value() -> None:
    rng = np.random.default_rng(0)

    def width(n: int) -> float:
        labels = np.arange(n) % 2
        found = summary(labels, 1 / (1 + np.exp(-rng.normal(labels, 1))), 0.5, resamples=200)
        for one in found.values():
            assert one.low is not None and one.high is not None and one.low <= one.value <= one.high
        return found["auc"].high - found["auc"].low

    assert width(400) < width(20)
    labels, scores = [0, 1, 0, 1, 1], [0.2, 0.8, 0.6, 0.4, 0.9]
    assert summary(labels, scores, 0.5) == summary(labels, scores, 0.5)


def test_many_frames_of_few_videos_are_few_examples() -> None:
    rng = np.random.default_rng(1)
    videos = np.repeat(np.arange(20), 50)
    labels = videos % 2
    scores = 1 / (1 + np.exp(-rng.normal(labels, 1, 1000) - np.repeat(rng.normal(0, 1, 20), 50)))
    alone, together = summary(labels, scores, 0.5)["auc"], summary(labels, scores, 0.5, videos)["auc"]
    assert alone.value == together.value and alone.n == together.n == 1000
    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_a_perfect_ranking_of_few_videos_is_not_certain() -> None:
    found = summary([0] * 8 + [1] * 8, [0.1] * 8 + [0.9] * 8, 0.5)
    assert found["auc"].value == 1.0 and found["auc"].high == 1.0 and 0.7 < found["auc"].low < 0.8
    assert found["accuracy"].low == pytest.approx(proportion(16, 16).low)
    for name in ("ap", "f1", "tpr_at_1fpr"):
        assert found[name].value == 1.0 and found[name].low < 0.7, name
    assert found["eer"].value == 0.0 and found["eer"].high > 0.3
    assert "resolve no rate below 1 in 8" in found["tpr_at_1fpr"].note


def test_newcombe_solves_its_equation_and_keeps_to_the_unit_interval() -> None:
    # Hanley and McNeil's variance written as in their paper (Radiology 143, 1982), at the limits found.
    fakes, reals, area = 12, 31, 0.7366
    for limit in newcombe(area, fakes, reals):
        q1, q2 = limit / (2 - limit), 2 * limit**2 / (1 + limit)
        n = (fakes + reals) / 2 - 1
        variance = (limit * (1 - limit) + n * (q1 - limit**2) + n * (q2 - limit**2)) / (fakes * reals)
        assert abs(area - limit) == pytest.approx(1.959964 * variance**0.5, abs=1e-6)
    low, high = newcombe(1.0, 5, 5)
    assert 0.5 < low < 0.8 and high == 1.0
    assert newcombe(0.0, 5, 5) == pytest.approx((0.0, 1 - low))


def test_the_interval_of_an_auc_covers_the_truth_near_the_edge() -> None:
    rng = np.random.default_rng(2)
    truth, covered, bootstrap_alone = 0.9522, 0, 0  # two normals 2.357 deviations apart: Phi(2.357 / sqrt 2)
    for _ in range(200):
        labels = np.repeat([0, 1], 12)
        scores = 1 / (1 + np.exp(-rng.normal(2.357 * labels, 1)))
        found = summary(labels, scores, 0.5, resamples=200)["auc"]
        covered += found.low <= truth <= found.high
        drawn, _ = cluster_weights(labels.astype(float), np.arange(24), 200, 0)
        low, high = np.quantile(bootstrap_figures(labels, scores, 0.5, 10, drawn)["auc"], [0.025, 0.975])
        bootstrap_alone += low <= truth <= high
    assert covered >= 0.95 * 200 > bootstrap_alone


def test_one_class_alone_gives_no_auc_but_still_a_false_alarm_rate() -> None:
    found = summary([0, 0, 0, 0], [0.1, 0.2, 0.9, 0.3], threshold=0.5)
    assert found["auc"].value is None and "not defined" in str(found["auc"]) and "only reals" in found["auc"].note
    assert found["fpr_at_threshold"].value == pytest.approx(0.25) and found["fpr_at_threshold"].n == 4
    assert found["brier"].value == pytest.approx(np.mean([0.01, 0.04, 0.81, 0.09]))
    assert summary([1, 1], [0.9, 0.8], 0.5)["fpr_at_threshold"].value is None
    assert summary([], [], 0.5)["accuracy"].value is None


def test_fakes_of_one_video_have_no_bootstrap_and_say_so() -> None:
    found = summary([0, 0, 0, 1, 1], [0.1, 0.2, 0.9, 0.8, 0.7], 0.5, clusters=["a", "b", "c", "d", "d"])
    assert "all fakes are of one video" in found["auc"].note and found["auc"].low < 0.4
    assert found["brier"].low is None and found["fpr_at_threshold"].low is not None
    assert not found["fpr_at_threshold"].note
