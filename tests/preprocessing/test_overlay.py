"""The overlay video: a real H.264 file whose frames show both sets of landmarks where they are, at the right times."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from preprocessing.calibration import CalibratedTrack
from preprocessing.errors import UndecodableMedia
from preprocessing.overlay import COLOURS, GAP, HEIGHT, PANEL, TOP, WIDTH, jitter, write_overlay
from preprocessing.types import Frame

BOX = (40, 20, 100)


def a_track(frames: list[int], offset: int = 60) -> CalibratedTrack:
    """68 points of a square on a grid, 60 units of 400 apart; the calibrated ones lie `offset` to the lower right."""
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(9)), axis=-1).reshape(-1, 2)[:68] * 36 + 30
    raw = np.repeat(grid[None], len(frames), axis=0)
    as_rows = [((p - 200) / 200).reshape(-1, 136).astype(np.float32) for p in (raw, raw + offset)]
    boxes = np.repeat(np.array([BOX]), len(frames), axis=0)
    return CalibratedTrack(np.array(frames), as_rows[1], as_rows[0], boxes, 0.125, 0)


def video(times: list[float]) -> Iterator[Frame]:
    for index, time in enumerate(times):
        yield Frame(index, time, np.full((160, 200, 3), 40 + index, np.uint8))


def decoded(path: Path) -> tuple[list[float], list[NDArray[np.uint8]], Any]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        facts = (stream.codec_context.name, stream.codec_context.pix_fmt, stream.width, stream.height)
        return [frame.time for frame in frames], [frame.to_ndarray(format="rgb24") for frame in frames], facts


def test_both_sets_of_landmarks_are_drawn_where_they_are(tmp_path: Path) -> None:
    out = tmp_path / "overlay.mp4"
    track = a_track([0, 1, 2])
    write_overlay(video([0, 0.04, 0.08]), track, out)
    _, pictures, facts = decoded(out)
    assert facts == ("h264", "yuv420p", WIDTH, HEIGHT)
    assert len(pictures) == 3
    for number, values in enumerate((track.raw, track.values)):
        points = (values[2].reshape(68, 2) + 1) / 2 * PANEL + (GAP + number * (PANEL + GAP), TOP)
        seen = np.array([pictures[2][round(float(y)), round(float(x))] for x, y in points], np.float64)
        # Half the chroma resolution of H.264 and dots of six pixels: the colour is near, not equal.
        near = np.abs(seen - COLOURS[number]).max(axis=1) < 90
        assert near.mean() > 0.95
        assert np.abs(seen - COLOURS[1 - number]).max(axis=1).min() > 90


def test_the_file_keeps_the_times_of_a_variable_frame_rate_and_leaves_out_frames_without_a_row(tmp_path: Path) -> None:
    out = tmp_path / "overlay.mp4"
    times = [0.0, 0.05, 0.15, 0.2, 0.5, 0.6]
    write_overlay(video(times), a_track([1, 2, 4]), out)
    found, _, _ = decoded(out)
    assert found == pytest.approx([0.0, 0.1, 0.45], abs=1e-3)


def test_one_frame_is_a_video_too_and_a_square_over_the_edge_is_drawn(tmp_path: Path) -> None:
    track = a_track([0])
    track.boxes[0] = (150, 90, 50)
    write_overlay(video([0.0, 0.04]), track, tmp_path / "one.mp4")
    assert len(decoded(tmp_path / "one.mp4")[1]) == 1


def test_nothing_is_left_and_nothing_lost_when_the_video_ends_early(tmp_path: Path) -> None:
    out = tmp_path / "overlay.mp4"
    out.write_bytes(b"older")
    with pytest.raises(UndecodableMedia, match="ends before frame 5"):
        write_overlay(video([0.0, 0.04, 0.08]), a_track([0, 1, 5]), out)
    assert out.read_bytes() == b"older"
    assert [path.name for path in tmp_path.iterdir()] == ["overlay.mp4"]
    with pytest.raises(ValueError, match="without rows"):
        write_overlay(video([0.0]), a_track([]), out)


def test_jitter_is_zero_in_steady_motion_and_unknown_at_a_gap() -> None:
    frames = np.array([0, 1, 2, 3, 10, 11])
    steady = np.arange(6)[:, None, None] * np.array([3.0, -1.0]) + np.zeros((6, 68, 1))
    found = jitter(steady, frames, np.full(6, 200.0))
    assert found[1:3] == pytest.approx([0, 0])
    assert np.isnan(found[[0, 3, 4, 5]]).all()
    steady[2] += (0, 5)
    assert jitter(steady, frames, np.full(6, 200.0))[[1, 2]] == pytest.approx([5.0, 10.0])
