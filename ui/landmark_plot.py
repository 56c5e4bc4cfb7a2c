"""How a person's landmarks move: their paths before and after calibration, and their movement over time."""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray

from detectors.landmark_track import LandmarkTrack
from preprocessing.calibration import SIDE
from ui.palette import PALETTE
from ui.timeline import Line, time_chart
from ui.words import LANDMARKS_FORMS, PIXELS_OF

RAW, CALIBRATED = PALETTE[1], PALETTE[0]
PATH = 12
"""Frames before and after the moment whose paths are drawn: half a second at 25 frames a second each."""
MARGIN = 12
"""Pixels around them."""


def paths_svg(track: LandmarkTrack, index: int, alt: str) -> str:
    """The 68 landmarks of frame `index` with the paths that they take around it, as found and after calibration, at the
    same scale."""
    near = slice(max(index - PATH, 0), index + PATH + 1)
    both = np.concatenate([track.raw[near], track.calibrated[near]]).reshape(-1, 2)
    low = both.min(0) - MARGIN
    width, height = (both.max(0) + MARGIN - low).tolist()
    drawn = []
    for points, tint, words in zip((track.raw, track.calibrated), (RAW, CALIBRATED), LANDMARKS_FORMS, strict=True):
        lines = _broken(points[near], track.frames[near])
        dots = "".join(f'<circle cx="{x}" cy="{y}" r="2.6"/>' for x, y in points[index].tolist())
        picture = (
            f'<svg viewBox="{low[0]} {low[1]} {width} {height}" aria-hidden="true"><path d="{lines}" '
            f'stroke="{tint}"/><g fill="{tint}">{dots}</g></svg>'
        )
        drawn.append(f"<figure><figcaption>{escape(words)}</figcaption>{picture}</figure>")
    return f'<div class="um-paths" role="img" aria-label="{escape(alt)}">{"".join(drawn)}</div>'


def motion_svg(track: LandmarkTrack, index: int, alt: str) -> str:
    """Mean movement of a landmark from each frame to the next, as found and after calibration, with the moment."""
    times = track.times[1:].tolist()
    moved = track.motion()
    lines = [
        Line(name, list(zip(times, values.tolist(), strict=True)), tint, dash)
        for values, name, tint, dash in zip(
            moved, LANDMARKS_FORMS, (RAW, CALIBRATED), ("solid", "dash"), strict=True
        )
    ]  # fmt: skip
    highest = max((float(np.nanmax(values)) for values in moved if np.isfinite(values).any()), default=0.0) or 1.0
    step = next(one for one in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 1000) if highest / one <= 4)
    top = step * np.ceil(highest / step)
    marks = [(step * number, f"{step * number:g}") for number in range(int(top / step) + 1)]
    unit = PIXELS_OF.format(side=SIDE)
    return time_chart(lines, float(top), marks, alt, moment=float(track.times[index]), unit=unit)


def typical_motion(track: LandmarkTrack) -> tuple[float, float]:
    """Median over the track of that movement, as found and after calibration; 0 where there is none."""
    raw, calibrated = (float(np.nanmedian(moved)) if np.isfinite(moved).any() else 0.0 for moved in track.motion())
    return raw, calibrated


def _broken(points: NDArray[np.int16], frames: NDArray[np.int32]) -> str:
    """The paths of (T, 68, 2) points as an SVG's path, one landmark's after the other, broken at gaps."""
    breaks = {0, *(np.flatnonzero(np.diff(frames) != 1) + 1).tolist()}
    return "".join(
        f"{'M' if place in breaks else 'L'}{x} {y}"
        for path in points.transpose(1, 0, 2).tolist()
        for place, (x, y) in enumerate(path)
    )
