"""The benchmark of growing cost: its line, its crowd, and itself on the smallest of everything."""

import pytest

from benchmarks import growth


def test_cost_that_grows_evenly_lies_on_the_line() -> None:
    start, slope, worst = growth.line({count: [2 + 0.5 * count] for count in (1, 2, 4, 8)})
    assert (start, slope, worst) == pytest.approx((2, 0.5, 0), abs=1e-6)


def test_cost_that_grows_faster_is_seen() -> None:
    assert growth.line({count: [count**2] for count in (1, 2, 4, 8, 16)})[2] > 0.3


def test_numbers_double_up_to_the_most() -> None:
    assert growth.doubled(1) == [1] and growth.doubled(16) == [1, 2, 4, 8, 16] and growth.doubled(20)[-1] == 16


@pytest.mark.slow
def test_each_of_what_grows_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "FACES", (1, 3))
    monkeypatch.setattr(growth, "REPEATS", 1)
    found = {row["metric"].split(",")[0]: row for row in growth.rows(dict(growth.measure(("faces", "detectors"))))}
    assert set(found) == {"faces in a picture", "detectors of pictures"}
    assert set(found["faces in a picture"]["seconds"]) == {"1", "3"}
    assert all(value > 0 for row in found.values() for value in row["seconds"].values())
