"""DeLong's areas, variances and comparison against published values and against the definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from train.delong import compare, delong

# DeLong, DeLong, Clarke-Pearson (1988): albumin, total protein, K-G score and the outcome of 43 patients; the example
# "Comparing Receiver Operating Characteristic Curves" of the manual of SAS/STAT's LOGISTIC prints areas and errors.
OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
3.7 6.7 6 1   3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0   3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
4.3 6.5 4 1   3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0   2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


def ovarian() -> tuple[np.ndarray, np.ndarray]:
    """Labels (43,), 1 where surgery did not help, and the three tests (3, 43): albumin, K-G score, total protein."""
    albumin, protein, score, helped = np.array(OVARIAN.split(), float).reshape(-1, 4).T
    return 1 - helped, np.stack([-albumin, score, -protein])


def test_areas_and_errors_are_the_published_ones() -> None:
    area, covariance = delong(*ovarian())
    assert area == pytest.approx([0.7366, 0.7258, 0.6478], abs=5e-5)
    assert np.sqrt(np.diag(covariance)) == pytest.approx([0.0927, 0.1028, 0.1000], abs=5e-5)


def test_paired_differences_are_the_published_ones() -> None:
    labels, (albumin, score, protein) = ovarian()
    found = compare(labels, albumin, score)
    assert (found.difference, found.low, found.high, found.p) == pytest.approx(
        (0.0108, -0.1761, 0.1976, 0.9102), abs=5e-5
    )
    found = compare(labels, protein, score)
    assert (found.difference, found.low, found.high, found.p) == pytest.approx(
        (-0.0780, -0.2830, 0.1271, 0.4561), abs=6e-5
    )


def test_ratings_of_hanley_and_mcneil_1982() -> None:
    # Radiology 143: ratings of 58 normal and 51 abnormal CT images; Stata's manual (roctab) prints 0.8932 and 0.0307.
    labels = np.repeat([0, 1], [58, 51])
    ratings = np.concatenate([np.repeat(range(5), [33, 6, 6, 11, 2]), np.repeat(range(5), [3, 2, 2, 11, 33])])
    area, covariance = delong(labels, ratings)
    assert area[0] == pytest.approx(0.8932, abs=5e-5) and covariance[0, 0] ** 0.5 == pytest.approx(0.0307, abs=5e-5)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 6)), min_size=6, max_size=40))
def test_midranks_give_what_the_definition_over_all_pairs_gives(items: list[tuple[bool, int, int]]) -> None:
    labels = np.array([one[0] for one in items])
    scores = np.array([one[1:] for one in items], float).T
    if min(labels.sum(), (~labels).sum()) < 2:
        return
    fakes, reals = scores[:, labels], scores[:, ~labels]
    wins = (fakes[:, :, None] > reals[:, None]) + 0.5 * (fakes[:, :, None] == reals[:, None])
    expected = np.cov(wins.mean(2)) / fakes.shape[1] + np.cov(wins.mean(1)) / reals.shape[1]
    area, covariance = delong(labels, scores)
    assert covariance == pytest.approx(expected, abs=1e-12)
    assert area == pytest.approx([roc_auc_score(labels, one) for one in scores])
    # Clusters of one item are no clusters.
    assert delong(labels, scores, np.arange(len(items)))[1] == pytest.approx(expected, abs=1e-12)


def test_repeating_every_item_in_its_cluster_adds_no_information() -> None:
    labels, scores = ovarian()
    alone = delong(labels, scores)[1]
    clusters = np.repeat(np.arange(43), 5)
    repeated = delong(np.repeat(labels, 5), np.repeat(scores, 5, axis=1), clusters)[1]
    assert repeated == pytest.approx(alone, rel=1e-9)
    assert np.diag(delong(np.repeat(labels, 5), np.repeat(scores, 5, axis=1))[1]).max() < np.diag(alone).min() / 3


def test_clusters_of_both_classes_meet_the_variance_of_simulated_data() -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(30), 4)
    labels = np.tile([0, 0, 1, 1], 30)
    areas, variances = [], []
    for _ in range(400):
        scores = np.repeat(rng.normal(0, 1, 30), 4) + rng.normal(labels, 1)
        area, covariance = delong(labels, scores, clusters)
        areas.append(area[0])
        variances.append(covariance[0, 0])
    assert np.mean(variances) == pytest.approx(np.var(areas), rel=0.2)


def test_what_cannot_be_compared_is_said() -> None:
    with pytest.raises(ValueError, match="both classes"):
        delong([1, 1], [0.1, 0.2])
    equal = compare([0, 0, 1, 1], [1, 2, 3, 4], [1, 2, 3, 4])
    assert (equal.difference, equal.p, equal.low) == (0, None, None)
    assert compare([0, 1, 1], [1, 2, 3], [3, 2, 1]).p is None
