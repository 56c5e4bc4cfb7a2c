"""How a person's landmarks move: their paths before and after calibration, and their movement over time."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from detectors.landmark_track import LandmarkTrack
from preprocessing.calibration import SIDE
from ui.plots import INK, PALETTE, styled
from ui.words import clock

RAW, CALIBRATED = PALETTE[1], PALETTE[0]
NAMES = ("as found", "after calibration")
PATH = 12
"""Frames before and after the moment whose paths are drawn: half a second at 25 frames a second each."""


def paths_figure(track: LandmarkTrack, index: int) -> go.Figure:
    """The 68 landmarks of frame `index` with the paths that they take around it, as found and after calibration."""
    figure = make_subplots(1, 2, subplot_titles=NAMES, horizontal_spacing=0.04)
    near = slice(max(index - PATH, 0), index + PATH + 1)
    for column, (points, tint) in enumerate(((track.raw, RAW), (track.calibrated, CALIBRATED)), 1):
        x, y = (_broken(points[near, :, axis], track.frames[near]) for axis in (0, 1))
        line = {"color": tint, "width": 1.6}
        figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=line, opacity=0.55, hoverinfo="skip"), 1, column)
        here = points[index]
        dots = {"color": tint, "size": 5, "symbol": "circle"}
        figure.add_trace(
            go.Scatter(x=here[:, 0], y=here[:, 1], mode="markers", marker=dots, hoverinfo="text",
                       hovertext=[f"landmark {number}" for number in range(1, 69)]),
            1, column,
        )  # fmt: skip
    both = np.concatenate([track.raw[near], track.calibrated[near]]).reshape(-1, 2)
    low, high = both.min(0) - 12, both.max(0) + 12
    figure.update_layout(showlegend=False)
    styled(figure, 380, top=34)
    figure.update_annotations(font={"size": 13, "color": INK})
    figure.update_xaxes(range=[low[0], high[0]], showticklabels=False, showgrid=False)
    figure.update_yaxes(range=[high[1], low[1]], showticklabels=False, showgrid=False)
    figure.update_yaxes(scaleanchor="x", scaleratio=1, row=1, col=1)
    figure.update_yaxes(scaleanchor="x2", scaleratio=1, row=1, col=2)
    return figure


def motion_figure(track: LandmarkTrack, index: int) -> go.Figure:
    """Mean movement of a landmark from each frame to the next, as found and after calibration, with the moment."""
    figure = go.Figure()
    times = track.times[1:]
    for moved, name, tint, dash in zip(track.motion(), NAMES, (RAW, CALIBRATED), ("solid", "dash"), strict=True):
        texts = [
            f"{name}: {value:.2f} pixels a frame<br>{clock(time)}" for time, value in zip(times, moved, strict=True)
        ]
        figure.add_trace(
            go.Scatter(x=times, y=moved, name=name, mode="lines", line={"color": tint, "width": 2, "dash": dash},
                       hovertext=texts, hoverinfo="text")
        )  # fmt: skip
    figure.add_vline(x=float(track.times[index]), line={"color": INK, "width": 1.5, "dash": "dot"})
    figure.update_yaxes(title={"text": f"pixels of {SIDE}", "font": {"size": 12}}, rangemode="tozero")
    figure.update_xaxes(title={"text": "seconds", "font": {"size": 12}}, zeroline=False)
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}, showlegend=True)
    return styled(figure, 230, top=34)


def typical_motion(track: LandmarkTrack) -> tuple[float, float]:
    """Median over the track of that movement, as found and after calibration; 0 where there is none."""
    raw, calibrated = (float(np.nanmedian(moved)) if np.isfinite(moved).any() else 0.0 for moved in track.motion())
    return raw, calibrated


def _broken(values: NDArray[np.int16], frames: NDArray[np.int32]) -> list[float | None]:
    """(T, 68) as one line for plotly: a landmark's path after the other, broken between them and at gaps."""
    breaks = set((np.flatnonzero(np.diff(frames) != 1) + 1).tolist())
    line: list[float | None] = []
    for path in values.T:
        for place, value in enumerate(path.tolist()):
            if place in breaks:
                line.append(None)
            line.append(value)
        line.append(None)
    return line
