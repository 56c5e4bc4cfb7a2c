"""Landmark rows to clips, and which moments they stand for."""

import numpy as np

from detectors.scoring import Samples, landmark_samples
from preprocessing.types import Track


def track(frames: list[int]) -> Track:
    count = len(frames)
    return Track(
        3,
        np.array(frames),
        np.array(frames) / 25,
        np.tile(np.array([1, 2, 3, 4], np.float32), (count, 1)),
        np.zeros((count, 68, 2), np.float32),
    )


def rows_of(frames: list[int]) -> np.ndarray:
    return np.repeat(np.array(frames, np.float32)[:, None], 136, axis=1)


def cut(frames: list[int], rows: np.ndarray | None = None) -> Samples | str:
    return landmark_samples(rows_of(frames) if rows is None else rows, track(frames), 30)


def test_each_clip_stands_for_its_middle_frame() -> None:
    found = cut(list(range(100, 190)))
    assert isinstance(found, Samples)
    assert [moment.frame for moment in found.moments] == [115, 145, 175]
    assert [int(clip[0, 0]) for clip in found.inputs] == [100, 130, 160]


def test_no_clip_spans_a_gap_in_the_track() -> None:
    found = cut([*range(40), *range(60, 95)])
    assert isinstance(found, Samples)
    assert [int(clip[0, 0]) for clip in found.inputs] == [0, 60]


def test_no_clip_holds_a_frame_without_a_row() -> None:
    frames = list(range(80))
    rows = rows_of(frames)
    rows[[10, 11, 45]] = np.nan
    found = cut(frames, rows)
    assert isinstance(found, Samples)
    assert [int(clip[0, 0]) for clip in found.inputs] == [12, 46]
    assert np.isfinite(found.inputs).all()


def test_a_track_without_a_run_of_frames_says_so() -> None:
    assert (
        cut([*range(29), *range(40, 69)]) == "needs 30 consecutive frames of a face; this track of 58 has no such run"
    )
