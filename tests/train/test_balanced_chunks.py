"""Balanced chunks: disjoint fakes, all the real videos, and validation that parts no video."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.balanced_chunks import Chunk, balanced_chunks, validation_cut


def videos(kind: str, count: int) -> list[str]:
    return [f"{kind}/{i}" for i in range(count)]


def test_celeb_df_gives_seven_chunks() -> None:
    real, fake = videos("real", 712), videos("fake", 5_299)
    chunks, left = balanced_chunks(real, fake, seed=1)
    assert [len(chunk) for chunk in chunks] == [1_424] * 7
    assert all(set(chunk.real) == set(real) for chunk in chunks)
    used = [video for chunk in chunks for video in chunk.fake]
    assert len(set(used)) == len(used) == 7 * 712
    assert len(left) == 315 and not set(left) & set(used)


def test_the_order_of_the_lists_does_not_matter_and_the_seed_does() -> None:
    real, fake = videos("real", 3), videos("fake", 20)
    assert balanced_chunks(real[::-1], fake[::-1], 1) == balanced_chunks(real, fake, 1)
    assert balanced_chunks(real, fake, 2) != balanced_chunks(real, fake, 1)


@pytest.mark.parametrize(
    ("real", "fake", "reason"),
    [
        (["a"], [], "no fewer fakes, not 1 and 0"),
        ([], ["b"], "no fewer fakes, not 0 and 1"),
        (["a"], ["a", "b"], "listed twice"),
    ],
)
def test_what_cannot_be_balanced_is_refused(real: list[str], fake: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        balanced_chunks(real, fake, 0)


@given(st.integers(1, 30), st.lists(st.integers(1, 40), min_size=60, max_size=60), st.integers(0, 99))
def test_validation_is_whole_videos_of_about_a_tenth(size: int, counts: list[int], seed: int) -> None:
    chunk = Chunk(tuple(videos("real", size)), tuple(videos("fake", size)))
    frames = dict(zip([*chunk.real, *chunk.fake], counts, strict=False))
    train, held = validation_cut(chunk, frames, seed)
    assert {*train, *held} == {(v, 0) for v in chunk.real} | {(v, 1) for v in chunk.fake}
    assert len(train) + len(held) == len(chunk) and train and held
    total, kept = sum(frames.values()), sum(frames[v] for v, _ in held)
    assert len(held) == 1 or kept <= 0.1 * total
    assert kept + frames[train[-1][0]] > 0.1 * total  # one more video would be too many
    assert validation_cut(chunk, frames, seed) == (train, held)


def test_videos_without_a_face_are_left_out() -> None:
    chunk = Chunk(("a", "b"), ("c", "d"))
    train, held = validation_cut(chunk, {"a": 25, "c": 25, "d": 0}, 0)
    assert {video for video, _ in [*train, *held]} == {"a", "c"}
    with pytest.raises(ValueError, match="1 videos of the chunk have frames"):
        validation_cut(chunk, {"a": 3}, 0)
