"""Sampling of a track while the video streams by."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from detectors.sampling import TrackSamples
from detectors.steps import FaceMeta


def run(length: int, limit: int) -> list[int]:
    samples = TrackSamples(limit)
    for number in range(length):
        position = samples.offer(FaceMeta(0, number, number / 25, (0, 0, 1, 1)))
        if position is not None:
            samples.fill(position, f"crop {number}")
    kept = samples.ordered()
    assert all(crop == f"crop {face.frame}" for face, crop in kept)
    return [face.frame for face, _ in kept]


@given(length=st.integers(1, 3000), limit=st.integers(2, 64))
def test_samples_are_even_bounded_and_start_at_the_first_face(length: int, limit: int) -> None:
    frames = run(length, limit)
    steps = {b - a for a, b in itertools.pairwise(frames)}
    assert frames[0] == 0 and len(frames) <= limit and len(steps) <= 1
    assert len(frames) == length if length <= limit else len(frames) > limit // 2 - 1
    assert length - 1 - frames[-1] < max(steps, default=1)


def test_a_crop_that_comes_after_its_face_was_let_go_is_ignored() -> None:
    samples = TrackSamples(2)
    positions = [samples.offer(FaceMeta(0, n, n / 25, (0, 0, 1, 1))) for n in range(3)]
    assert positions == [0, 1, 2]
    for position in positions:
        samples.fill(position, position)
    assert [face.frame for face, _ in samples.ordered()] == [0, 2]


def test_a_smaller_share_lets_faces_go_and_stays_even() -> None:
    samples = TrackSamples(32)
    for number in range(40):
        if (position := samples.offer(FaceMeta(0, number, number / 25, (0, 0, 1, 1)))) is not None:
            samples.fill(position, number)
    samples.shrink(8)
    assert [face.frame for face, _ in samples.ordered()] == [0, 8, 16, 24, 32]
