"""Lines over time as SVG that fills its column: a person's scores, or how the landmarks move.

Places along the axis are shares of the width, so letters, points and dashes keep their size on any window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from detectors.result import AnalysisResult, FaceResult, FrameScore
from ui.palette import DASHES, SYMBOLS, colours, detector_names, forms
from ui.words import FAKE, REAL, SECONDS, TIME_POINT, clock, probability

SIDE = 1000
"""Of the square that the lines are drawn in before they are stretched to the column."""
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600)
"""Seconds from one mark of the axis to the next; the first that makes at most MARKS of them."""
MARKS = 7


@dataclass(frozen=True)
class Line:
    """Values over time; NaN breaks the line. `symbol` (a key of SYMBOLS) marks each value with what `said` says of it,
    and `numbers` names those that can be clicked."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    dash: str
    symbol: str = ""
    said: Sequence[str] = ()
    numbers: Sequence[int] = ()
    faint: bool = False


@dataclass(frozen=True)
class Clicked:
    """A point of a timeline: what which detector says of which frame."""

    detector: str
    at: FrameScore


def points_of(face: FaceResult) -> list[Clicked]:
    """Every point of the person's timeline, by its number there."""
    return [Clicked(name, at) for name, moments in _moments(face) for at in moments]


def _moments(face: FaceResult) -> Iterator[tuple[str, list[FrameScore]]]:
    for name, score in sorted(face.detectors.items()):
        moments = sorted(score.frame_scores, key=lambda one: one.time)
        if len(moments) > 1:
            yield name, moments


def scores_over_time(result: AnalysisResult, face: FaceResult, alt: str) -> str:
    """Every detector's score over time for one person, dotted the threshold; empty where nothing has a time axis.
    Each point's number (data-at) is its place in `points_of`."""
    tint, form = colours(detector_names(result)), forms(detector_names(result))
    lines: list[Line] = []
    count = 0
    for name, moments in _moments(face):
        symbol, dash = form[name]
        said = [
            TIME_POINT.format(name=name, score=probability(one.score), clock=clock(one.time), frame=one.frame)
            for one in moments
        ]
        places = [(one.time, one.score) for one in moments]
        numbers = range(count, count + len(moments))
        faint = face.detectors[name].status != "ok"
        lines.append(Line(name, places, tint[name], dash, symbol, said, numbers, faint))
        count += len(moments)
    if not lines:
        return ""
    return time_chart(lines, 1.0, [(0.0, REAL), (0.5, "0.5"), (1.0, FAKE)], alt, level=result.threshold)


def time_chart(
    lines: Sequence[Line],
    top: float,
    marks: Sequence[tuple[float, str]],
    alt: str,
    level: float | None = None,
    moment: float | None = None,
    unit: str = "",
) -> str:
    """The lines from 0 to `top` with `marks` beside them; dotted a `level` of the values or a `moment` of the time, in
    seconds. `unit` is said above the marks."""
    last = max((time for line in lines for time, _ in line.points), default=0.0) or 1.0
    step = next((one for one in STEPS if last / one <= MARKS - 1), last)
    times = [step * number for number in range(math.floor(last / step + 1e-9) + 1)]
    grid = [f"M0 {_up(value, top)}H{SIDE}" for value, _ in marks] + [f"M{_along(t, last)} 0V{SIDE}" for t in times]
    drawn = [_path("um-time-grid", " ".join(grid))]
    if level is not None:
        drawn.append(_path("um-time-rule", f"M0 {_up(level, top)}H{SIDE}"))
    if moment is not None:
        drawn.append(_path("um-time-rule", f"M{_along(moment, last)} 0V{SIDE}"))
    drawn += [_line(line, last, top) for line in lines]
    points = "".join(_points(line, last, top) for line in lines)
    y = "".join(f'<span class="y" style="bottom:{value / top:.2%}">{escape(words)}</span>' for value, words in marks)
    x = "".join(f'<span class="x" style="left:{time / last:.2%}">{time:g}</span>' for time in times)
    said = f'<span class="unit">{escape(unit)}</span>' if unit else ""
    return (
        f'<div class="um-time" role="img" aria-label="{escape(alt)}">{_legend(lines)}'
        f'<div class="um-time-plot{" measured" if unit else ""}">'
        f'<svg viewBox="0 0 {SIDE} {SIDE}" preserveAspectRatio="none">{"".join(drawn)}</svg>'
        f'<svg>{points}</svg>{y}{x}{said}</div><p class="um-time-title">{SECONDS}</p></div>'
    )


def _along(time: float, last: float) -> float:
    return round(time / last * SIDE, 1)


def _up(value: float, top: float) -> float:
    return round((1 - value / top) * SIDE, 1)


def _path(css: str, d: str) -> str:
    return f'<path class="{css}" d="{d}"/>'


def _stroke(line: Line) -> str:
    return f'stroke="{line.colour}" stroke-dasharray="{DASHES[line.dash]}"'


def _line(line: Line, last: float, top: float) -> str:
    path, pen = [], "M"
    for time, value in line.points:
        if math.isnan(value):
            pen = "M"
            continue
        path.append(f"{pen}{_along(time, last)} {_up(value, top)}")
        pen = "L"
    faint = " faint" if line.faint else ""
    return f'<path class="um-time-line{faint}" {_stroke(line)} d="{"".join(path)}"/>'


def _points(line: Line, last: float, top: float) -> str:
    if not line.symbol:
        return ""
    drawn = []
    numbers = line.numbers or [-1] * len(line.points)
    for (time, value), said, number in zip(line.points, line.said, numbers, strict=True):
        place = f'x="{time / last:.2%}" y="{1 - value / top:.2%}"'
        at = f' data-at="{number}"' if number >= 0 else ""
        drawn.append(
            f'<svg class="um-time-point" {place}><g{at}><title>{escape(said)}</title><circle r="9"/>'
            f'<path fill="{line.colour}" d="{SYMBOLS[line.symbol]}"/></g></svg>'
        )
    return "".join(drawn)


def _legend(lines: Sequence[Line]) -> str:
    items = []
    for line in lines:
        drawn = f'<path class="um-time-line" {_stroke(line)} d="M1 6H31"/>'
        if line.symbol:
            drawn += f'<path fill="{line.colour}" d="{SYMBOLS[line.symbol]}" transform="translate(16 6)"/>'
        items.append(f'<li><svg width="32" height="12" aria-hidden="true">{drawn}</svg>{escape(line.name)}</li>')
    return f'<ul class="um-time-legend">{"".join(items)}</ul>'
