"""Voting of several networks, and of a video's frames."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.bagging import Bag, majority_vote, video_label
from detectors.classical import fit


def test_the_majority_decides_against_the_mean() -> None:
    vote = majority_vote(np.array([[0.6], [0.6], [0.0]]))
    assert vote.label.tolist() == [1]
    assert vote.share.tolist() == pytest.approx([2 / 3])
    assert vote.mean.tolist() == pytest.approx([0.4])


@pytest.mark.parametrize(("pair", "label"), [((0.9, 0.2), 1), ((0.6, 0.1), 0), ((1.0, 0.0), 0)])
def test_even_votes_are_decided_by_the_mean(pair: tuple[float, float], label: int) -> None:
    assert majority_vote(np.array(pair)[:, None]).label.tolist() == [label]


def test_a_missing_member_takes_no_part() -> None:
    scores = np.array([[0.9, 0.1], [np.nan, 0.2], [0.4, np.nan]])
    vote = majority_vote(scores)
    assert vote.share.tolist() == [0.5, 0.0]
    assert vote.mean.tolist() == pytest.approx([0.65, 0.15])
    assert vote.label.tolist() == [1, 0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_the_order_of_the_members_does_not_matter(scores: list[float], random: Random) -> None:
    column = np.array(scores)[:, None]
    shuffled = list(scores)
    random.shuffle(shuffled)
    first, second = majority_vote(column), majority_vote(np.array(shuffled)[:, None])
    assert first.share.tolist() == second.share.tolist()
    assert first.mean[0] == pytest.approx(second.mean[0])


def test_what_cannot_vote_is_refused() -> None:
    with pytest.raises(ValueError, match="one at least for each item"):
        majority_vote(np.array([[np.nan], [np.nan]]))
    with pytest.raises(ValueError, match="from 0 to 1"):
        majority_vote(np.array([[3.0]]))
    with pytest.raises(ValueError, match="without members"):
        Bag([]).predict(None)


@pytest.mark.parametrize(("labels", "label"), [([1, 0], 0), ([1, 1, 0], 1), ([0, 0, 1], 0), ([1], 1)])
def test_half_of_the_frames_is_not_enough_for_fake(labels: list[int], label: int) -> None:
    assert video_label(np.array(labels)) == label


def test_a_video_without_frames_has_no_label() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        video_label(np.array([]))


def test_a_bag_of_classifiers_answers_as_their_scores_do() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    x = random.normal(0, 1, (60, 4)) + 2 * labels[:, None]
    members = [fit("sgd_log", x[i::3], labels[i::3], seed=i) for i in range(3)]
    vote = Bag([member.score for member in members]).predict(x)
    assert np.allclose(vote.mean, np.mean([member.probability(x) for member in members], 0))
    assert (vote.label == labels).mean() > 0.8
