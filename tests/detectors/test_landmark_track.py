"""A person's landmarks before and after calibration, as people are shown them."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.landmark_track import LandmarkTrack, pack, unpack
from preprocessing.calibration import normalise_track
from preprocessing.types import Track

SIZE = (640, 480)


def track(frames: NDArray[np.int64]) -> Track:
    """A still face that jitters by a pixel."""
    rng = np.random.default_rng(3)
    face = rng.uniform(100, 300, (68, 2))
    points = (face + rng.normal(0, 1, (len(frames), 68, 2))).astype(np.float32)
    return Track(1, frames, frames / 25, np.tile([90, 90, 310, 310], (len(frames), 1)).astype(np.float32), points)


def test_what_was_packed_comes_back_in_pixels_of_the_square() -> None:
    jittery = track(np.arange(20))
    rows = normalise_track(jittery, SIZE).values
    rows[:, :] = rows[0]  # held still
    found = unpack(pack(jittery, rows, SIZE))
    assert found.raw.shape == found.calibrated.shape == (20, 68, 2) and found.frames.tolist() == list(range(20))
    assert found.times[-1] == pytest.approx(19 / 25)
    assert found.raw.min() >= 0 and found.raw.max() <= 400
    raw, calibrated = found.motion()
    assert raw.shape == (19,) and raw.min() > 0.5 and calibrated.max() == 0


def test_frames_without_a_row_are_left_out_and_no_motion_crosses_a_gap() -> None:
    broken = track(np.array([0, 1, 2, 7, 8]))
    rows = normalise_track(broken, SIZE).values
    rows[1] = np.nan
    found = unpack(pack(broken, rows, SIZE))
    assert found.frames.tolist() == [0, 2, 7, 8]
    assert np.isnan(found.motion()[0]).tolist() == [True, True, False]


def test_other_files_are_refused(tmp_path: Path) -> None:
    one = LandmarkTrack(np.zeros(2, np.int32), np.zeros(2, np.float32), np.zeros((2, 68, 2), np.int16), np.zeros(3))
    np.savez(tmp_path / "a.npz", **vars(one))
    for content in (b"", b"PK\x03\x04 no", (tmp_path / "a.npz").read_bytes()):
        with pytest.raises(ValueError, match="not a landmark track"):
            unpack(content)
