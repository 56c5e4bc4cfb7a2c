"""Pooling a track's frames into one logit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from detectors.aggregate import FAMILY, Aggregation

LOGITS = st.lists(st.floats(-30, 30), min_size=1, max_size=40)


@given(logits=LOGITS)
def test_every_pooling_stays_within_the_frames(logits) -> None:
    values = np.array(logits)
    for how in FAMILY:
        assert values.min() - 1e-6 <= how.pool(values) <= values.max() + 1e-6


@given(logits=LOGITS, place=st.integers(0, 39), more=st.floats(0, 10))
def test_a_more_suspicious_frame_never_lowers_the_track_but_where_only_confident_frames_count(
    logits, place, more
) -> None:
    before = np.array(logits)
    after = before.copy()
    after[place % len(after)] += more
    for how in FAMILY:
        if how.kind != "confident":
            assert how.pool(before) <= how.pool(after) + 1e-6


def test_each_kind_pools_as_it_says() -> None:
    values = np.array([-2.0, 0.1, 0.2, 3.0])
    assert Aggregation(kind="mean").pool(values) == pytest.approx(values.mean())
    assert Aggregation(kind="median").pool(values) == pytest.approx(0.15)
    assert Aggregation(kind="top", share=0.5).pool(values) == pytest.approx(1.6)
    assert Aggregation(kind="confident", share=0.5).pool(values) == pytest.approx(0.5)
    assert Aggregation(kind="confident", share=0.25, neutral=2.5).pool(values) == pytest.approx(-2.0)
    share = (1 / (1 + np.exp(-values))).mean()
    assert Aggregation(kind="mean_probability").pool(values) == pytest.approx(np.log(share / (1 - share)))
    assert str(Aggregation(kind="top", share=0.1)) == "top 0.1" and str(Aggregation(kind="mean")) == "mean"


def test_a_pooling_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValidationError):
        Aggregation.model_validate({"kind": "mode"})
    with pytest.raises(ValidationError):
        Aggregation(kind="top", share=0)
