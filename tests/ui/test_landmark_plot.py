"""A person's landmarks in motion, as the page draws them."""

import numpy as np

from detectors.landmark_track import LandmarkTrack
from ui.landmark_plot import PATH, motion_figure, paths_figure, typical_motion


def track(frames: list[int]) -> LandmarkTrack:
    """Found with a jitter of 4 pixels, still after calibration."""
    count = len(frames)
    face = np.random.default_rng(1).integers(100, 300, (68, 2))
    still = np.repeat(face[None], count, 0).astype(np.int16)
    found = still + np.where(np.arange(count) % 2, 4, 0)[:, None, None].astype(np.int16)
    return LandmarkTrack(np.array(frames, np.int32), np.array(frames, np.float32) / 25, found, still)


def test_the_moment_is_shown_before_and_after_with_its_paths() -> None:
    figure = paths_figure(track(list(range(60))), 30)
    before, dots_before, after, dots_after = figure.data
    assert len(dots_before.x) == len(dots_after.x) == 68
    assert len(before.x) == 68 * (2 * PATH + 2), "each path with a break behind it"
    assert list(after.x[: 2 * PATH + 1]) == [after.x[0]] * (2 * PATH + 1)
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1], "pictures have their origin above"


def test_no_path_and_no_motion_crosses_a_gap() -> None:
    gap = track([0, 1, 2, 9, 10])
    assert paths_figure(gap, 2).data[0].x[3] is None
    assert np.isnan(motion_figure(gap, 2).data[0].y[2])


def test_the_typical_motion_tells_jitter_from_stillness() -> None:
    raw, calibrated = typical_motion(track(list(range(10))))
    assert raw == np.float32(np.hypot(4, 4)) and calibrated == 0
