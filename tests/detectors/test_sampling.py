"""Sampling of a track while the video streams by."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detectors.sampling import ClipSamples, TrackSamples
from detectors.steps import FaceMeta
from preprocessing.inputs import ClipInput, FaceInput


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


def clips(frames: list[int], length: int, stride: int, limit: int) -> list[list[int]]:
    spec = ClipInput(length, stride, FaceInput(64))
    samples = ClipSamples(spec, limit)
    for frame in frames:
        place = samples.offer(FaceMeta(0, frame, frame / 25, (0, 0, 1, 1)))
        if place is not None:
            samples.fill(place, f"crop {frame}")
    kept = samples.ordered()
    assert all(crops == [f"crop {face.frame}" for face in faces] for faces, crops in kept)
    return [[face.frame for face in faces] for faces, _ in kept]


def test_clips_are_cut_one_after_the_other() -> None:
    assert clips(list(range(10)), length=3, stride=1, limit=8) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert clips(list(range(12)), length=3, stride=2, limit=8) == [[0, 2, 4], [6, 8, 10]]


def test_no_clip_spans_a_gap() -> None:
    assert clips([0, 1, 4, 5, 6, 7], length=3, stride=1, limit=8) == [[4, 5, 6]]


def test_a_track_too_short_gives_no_clip() -> None:
    assert clips([0, 1], length=3, stride=1, limit=8) == []
    assert clips([0, 1, 2, 3, 4], length=3, stride=2, limit=8) == [[0, 2, 4]]


@given(count=st.integers(1, 600), length=st.integers(1, 20), stride=st.integers(1, 4), limit=st.integers(1, 9))
def test_clips_are_even_and_bounded(count: int, length: int, stride: int, limit: int) -> None:
    found = clips(list(range(count)), length, stride, limit)
    assert len(found) <= limit and all(len(clip) == length for clip in found)
    assert bool(found) == (count >= (length - 1) * stride + 1)
    assert all(np.diff(clip).tolist() == [stride] * (length - 1) for clip in found)
    starts = {b[0] - a[0] for a, b in itertools.pairwise(found)}
    assert len(starts) <= 1
