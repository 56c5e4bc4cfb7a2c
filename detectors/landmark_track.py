"""One person's landmarks over time before and after calibration, as a small file that people can be shown.

Both are in LRNet's square of 400 pixels (preprocessing.calibration): what the landmark finder said, and what is left
when optical flow has taken its jitter out. The latter is what LRNet reads.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocessing.calibration import SIDE, normalise_track
from preprocessing.types import Track

MAX_ROWS = 1500
"""Frames that are kept, from the first: a minute at 25 frames a second, about 100 kB."""


@dataclass(frozen=True)
class LandmarkTrack:
    """Of N frames: `frames` (N,) int32, `times` (N,) float32 in seconds, `raw` and `calibrated` (N, 68, 2) int16 in
    pixels of the square of 400."""

    frames: NDArray[np.int32]
    times: NDArray[np.float32]
    raw: NDArray[np.int16]
    calibrated: NDArray[np.int16]

    def motion(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """How far a landmark moves from one frame to the next, mean of the 68, in pixels of the square: raw and
        calibrated, each (N - 1,); NaN across a gap between frames."""
        gap = np.diff(self.frames) != 1
        found = []
        for points in (self.raw, self.calibrated):
            moved = np.linalg.norm(np.diff(points.astype(np.float32), axis=0), axis=2).mean(1)
            moved[gap] = np.nan
            found.append(moved.astype(np.float32))
        return found[0], found[1]


def pack(track: Track, rows: NDArray[np.float32], frame_size: tuple[int, int]) -> bytes:
    """The file of a track and its calibrated rows (N, 136); `frame_size` is (width, height). Frames whose face lies
    outside the picture are left out."""
    before = normalise_track(track, frame_size)
    raw = np.full_like(rows, np.nan)
    raw[np.isin(track.frames, before.frames)] = before.raw
    usable = np.flatnonzero((np.isfinite(rows) & np.isfinite(raw)).all(axis=1))[:MAX_ROWS]
    out = io.BytesIO()
    np.savez_compressed(
        out,
        frames=track.frames[usable].astype(np.int32),
        times=track.times[usable].astype(np.float32),
        raw=_pixels(raw[usable]),
        calibrated=_pixels(rows[usable]),
    )
    return out.getvalue()


def _pixels(rows: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.rint(rows.reshape(-1, 68, 2) * (SIDE / 2) + SIDE / 2).astype(np.int16)


def unpack(content: bytes) -> LandmarkTrack:
    """Raises ValueError for what is no such file."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            found = LandmarkTrack(file["frames"], file["times"], file["raw"], file["calibrated"])
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"not a landmark track: {error}") from None
    expected = (len(found.frames), 68, 2)
    if found.raw.shape != expected or found.calibrated.shape != expected or len(found.times) != len(found.frames):
        raise ValueError("not a landmark track: its arrays do not fit together")
    return found
