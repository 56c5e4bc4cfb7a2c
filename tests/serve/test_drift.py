"""Drift: silent while scores are as the card's, whatever the share of fakes; loud when they are not; in the metrics."""

import numpy as np
import pytest

from serve.drift import LEAST, Drift

REALS = (0.4, 0.3, 0.15, 0.1, 0.05, 0.0, 0.0, 0.0, 0.0, 0.0)
FAKES = tuple(reversed(REALS))


def drawn(shares: tuple[float, ...], count: int, seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    return list((rng.choice(10, count, p=shares) + rng.random(count)) / 10)


def after(scores: list[float]) -> float | None:
    drift, found = Drift((REALS, FAKES)), None
    for score in scores:
        found = drift.add(score)
    return found


def test_few_scores_say_nothing() -> None:
    assert after(drawn(REALS, LEAST - 1)) is None and after(drawn(REALS, LEAST)) is not None


@pytest.mark.parametrize("fakes", [0, 150, 400])
def test_the_share_of_fakes_is_no_drift(fakes: int) -> None:
    found = after(drawn(FAKES, fakes) + drawn(REALS, 500 - fakes, seed=1))
    assert found is not None and found < 0.1


def test_scores_in_the_middle_are_drift_and_old_ones_are_forgotten() -> None:
    middle = drawn((0, 0, 0, 0, 0.5, 0.5, 0, 0, 0, 0), 500)
    found = after(drawn(REALS, 400) + middle)
    assert found is not None and found > 0.8
    again = after(middle + drawn(REALS, 500))
    assert again is not None and again < 0.1


def test_the_ends_of_the_scale_count() -> None:
    assert after([0.0, 1.0] * 200) is not None
