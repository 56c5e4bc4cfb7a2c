"""Figures of a result, the same on every page; they need nothing but the result."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from detectors.result import AnalysisResult, DetectorScore, FaceResult
from ui.words import STATUS, VERDICTS, clock, deciding_face, probability

PALETTE = ("#5b6ee1", "#cf7423", "#1f9bb0", "#c2559d", "#8a9a2b", "#8c6bd8", "#b5533c", "#4f8f5b")
"""At least 3 to 1 on white and on near-black (WCAG 1.4.11), so of much the same lightness: where lines cross, forms and
dashes tell them apart too. None of them is a verdict's colour."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "triangle-down")
DASHES = {"solid": "none", "dash": "7 4", "dot": "2 3", "dashdot": "8 3 2 3", "longdash": "14 4"}
"""Plotly's names, and the same for SVG."""
FONT = '"Source Sans", "Source Sans Pro", system-ui, sans-serif'
"""What Streamlit and Gradio set their pages in."""
INK = "#808792"
"""Readable on white and on near-black, so that one figure serves both."""
GRID = "rgba(128, 135, 146, 0.22)"
ROW_PX = 46
NEAR = 0.09
"""Of the axis: about half the width of a number on a phone."""
PAIR = ("first", "second")
FORMS = (("circle-open", "○"), ("circle", "●"), ("diamond-open", "◇"), ("diamond", "◆"))
"""Of files side by side: plotly's symbol and the sign that stands for it."""


def colours(names: list[str]) -> dict[str, str]:
    """A colour for each detector, the same in every figure of a result."""
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(sorted(names))}


def forms(names: list[str]) -> dict[str, tuple[str, str]]:
    """A symbol and a dash for each detector: 35 pairs, so that lines are told apart without their colours."""
    dashes = list(DASHES)
    return {n: (SYMBOLS[i % len(SYMBOLS)], dashes[i % len(dashes)]) for i, n in enumerate(sorted(names))}


def detector_names(result: AnalysisResult) -> list[str]:
    """Every detector that the result speaks of."""
    return sorted({name for face in result.faces for name in face.detectors})


def scores_figure(result: AnalysisResult, face: FaceResult) -> go.Figure:
    """Each detector's score of one face on the calibrated axis from real (0) to fake (1), and the fused score with
    its interval against the threshold. Detectors without a score are listed with the reason."""
    names = sorted(face.detectors, key=lambda n: face.detectors[n].score or -1.0)
    tint = colours(detector_names(result))
    figure = go.Figure()
    for name in names:
        score = face.detectors[name]
        if score.score is None:
            why = STATUS[score.status] or "no score"
            figure.add_annotation(x=0.015, y=name, text=f"<i>{why}</i>", showarrow=False, xanchor="left")
            figure.add_trace(_dots([None], [name], name))
            continue
        counts = score.status == "ok"
        figure.add_trace(
            go.Scatter(x=[0, score.score], y=[name, name], mode="lines", line={"color": tint[name], "width": 4},
                       opacity=0.35 if counts else 0.15, hoverinfo="skip", showlegend=False)
        )  # fmt: skip
        symbol = "circle" if counts else "circle-open"
        marker = {"color": tint[name], "size": 14, "symbol": symbol, "line": {"width": 2, "color": tint[name]}}
        figure.add_trace(_dots([score.score], [name], name, marker, _detector_hover(name, score)))
        figure.add_annotation(
            y=name, text=probability(score.score), showarrow=False, yshift=17, font={"size": 12},
            **_clear_of(result.threshold, score.score),
        )  # fmt: skip
    if face.fused is not None and face.interval is not None:
        low, high = face.interval
        colour = VERDICTS[result.verdict].colour
        band = {"color": colour, "width": 14}
        figure.add_trace(
            go.Scatter(x=[low, high], y=["together"] * 2, mode="lines", line=band, opacity=0.28,
                       hoverinfo="skip", showlegend=False)
        )  # fmt: skip
        hover = f"together {probability(face.fused)}, interval {probability(low)} to {probability(high)}"
        marker = {"color": colour, "size": 17, "symbol": "diamond"}
        figure.add_trace(_dots([face.fused], ["together"], "together", marker, hover))
        figure.add_annotation(
            y="together", text=f"<b>{probability(face.fused)}</b>", showarrow=False, yshift=18,
            **_clear_of(result.threshold, face.fused),
        )  # fmt: skip
        names = [*names, "together"]
    figure.add_vline(x=result.threshold, line={"color": INK, "width": 1.5, "dash": "dot"})
    ticks = ["0 real", "", "0.5", "", "1 fake"]
    figure.update_xaxes(range=[-0.02, 1.02], tickvals=[0, 0.25, 0.5, 0.75, 1], ticktext=ticks)
    figure.update_yaxes(categoryorder="array", categoryarray=names, showgrid=False)
    return styled(figure, ROW_PX * len(names) + 56)


def _clear_of(threshold: float, score: float) -> dict[str, Any]:
    """Where a score's number stands: above its dot, or beside the threshold's line where that would run through it."""
    if abs(score - threshold) > NEAR:
        return {"x": score}
    if min(score, threshold) > 2 * NEAR:
        return {"x": min(score, threshold), "xanchor": "right", "xshift": -5}
    return {"x": max(score, threshold), "xanchor": "left", "xshift": 5}


def pair_figure(first: AnalysisResult, second: AnalysisResult) -> go.Figure:
    """`compared_figure` of two files: hollow the first, filled the second."""
    return compared_figure([first, second], PAIR)


def compared_figure(results: Sequence[AnalysisResult], names: Sequence[str]) -> go.Figure:
    """Each detector's score of up to four files' deciding faces, one row each, told apart by the form of the dot; and
    the fused scores. `names` of the files, in their order."""
    found = []
    for result in results:
        face = deciding_face(result)
        scores = {name: one.score for name, one in (face.detectors if face else {}).items() if one.score is not None}
        found.append(scores | ({"together": result.score} if result.score is not None else {}))
    everyone = {name for scores in found for name in scores}
    rows = sorted(everyone - {"together"}, key=lambda name: found[-1].get(name, -1.0))
    rows += ["together"] if "together" in everyone else []
    tint = colours([name for name in rows if name != "together"]) | {"together": INK}
    figure = go.Figure()
    for name in rows:
        there = [scores[name] for scores in found if name in scores]
        if len(there) > 1:
            figure.add_trace(
                go.Scatter(x=[min(there), max(there)], y=[name, name], mode="lines", opacity=0.4, hoverinfo="skip",
                           line={"color": tint[name], "width": 3}, showlegend=False)
            )  # fmt: skip
        for scores, title, (symbol, _) in zip(found, names, FORMS[: len(found)], strict=True):
            marker = {"color": tint[name], "size": 14, "symbol": symbol, "line": {"width": 3, "color": tint[name]}}
            hover = f"{name}, {title}: {probability(scores.get(name))}"
            figure.add_trace(_dots([scores.get(name)], [name], name, marker, hover))
    figure.update_xaxes(
        range=[-0.02, 1.02], tickvals=[0, 0.25, 0.5, 0.75, 1], ticktext=["0 real", "", "0.5", "", "1 fake"]
    )
    figure.update_yaxes(categoryorder="array", categoryarray=rows, showgrid=False)
    told = [f"{sign} {escape(title)}" for title, (_, sign) in zip(names, FORMS[: len(found)], strict=True)]
    lines = 1 if sum(map(len, names)) < 30 else len(told)
    legend = ("   " if lines == 1 else "<br>").join(told)  # a phone has no room for long names in a row
    figure.add_annotation(
        x=0, y=1.0, xref="paper", yref="paper", xanchor="left", yanchor="bottom", showarrow=False, text=legend,
        align="left",
    )  # fmt: skip
    return styled(figure, ROW_PX * len(rows) + 46 + 18 * lines, top=12 + 18 * lines)


def timeline_figure(result: AnalysisResult, face: FaceResult) -> go.Figure | None:
    """Every detector's score over time for one person, against the threshold; None where nothing has a time axis.

    A point's customdata: time, frame, detector, score."""
    tint, form = colours(detector_names(result)), forms(detector_names(result))
    figure = go.Figure()
    for name, score in sorted(face.detectors.items()):
        moments = sorted(score.frame_scores, key=lambda moment: moment.time)
        if len(moments) < 2:
            continue
        symbol, dash = form[name]
        texts = [f"{name} {probability(m.score)}<br>{clock(m.time)}, frame {m.frame}" for m in moments]
        figure.add_trace(
            go.Scatter(
                x=[m.time for m in moments], y=[m.score for m in moments], name=name, mode="lines+markers",
                line={"color": tint[name], "width": 2.2, "dash": dash}, marker={"size": 7, "symbol": symbol},
                hovertext=texts, hoverinfo="text", opacity=1.0 if score.status == "ok" else 0.45,
                customdata=[[m.time, m.frame, name, m.score] for m in moments],
            )
        )  # fmt: skip
    if not figure.data:
        return None
    figure.add_hline(y=result.threshold, line={"color": INK, "width": 1.5, "dash": "dot"})
    figure.update_yaxes(range=[-0.03, 1.03], tickvals=[0, 0.5, 1], ticktext=["real", "0.5", "fake"])
    figure.update_xaxes(title={"text": "seconds", "font": {"size": 12}}, rangemode="tozero", zeroline=False)
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}, showlegend=True)
    return styled(figure, 260, top=34)


def contributions_figure(result: AnalysisResult, face: FaceResult) -> go.Figure | None:
    """How far each detector moves the fused log-odds, to real or to fake; None where nothing was fused."""
    if not face.contributions:
        return None
    ordered = sorted(face.contributions.items(), key=lambda item: abs(item[1]))
    values = [value for _, value in ordered]
    tint = [VERDICTS["fake" if value > 0 else "real"].colour for value in values]
    figure = go.Figure(
        go.Bar(x=values, y=[name for name, _ in ordered], orientation="h", marker={"color": tint, "cornerradius": 4},
               width=0.42, text=[f"{value:+.2f}" for value in values], textposition="outside", cliponaxis=False,
               hovertext=[f"{name} {value:+.2f} log-odds" for name, value in ordered], hoverinfo="text")
    )  # fmt: skip
    reach = max(1.0, *(abs(value) for value in values)) * 1.35
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    figure.update_xaxes(
        range=[-reach, reach], tickvals=[-reach * 0.82, 0, reach * 0.82], ticktext=["to real", "0", "to fake"]
    )
    figure.update_yaxes(showgrid=False)
    return styled(figure, ROW_PX * len(ordered) + 56)


def _dots(x: list[Any], y: list[str], name: str, marker: dict[str, Any] | None = None, hover: str = "") -> go.Scatter:
    return go.Scatter(
        x=x,
        y=y,
        name=name,
        mode="markers",
        marker=marker or {},
        hovertext=hover,
        hoverinfo="text",
        showlegend=False,
        cliponaxis=False,
    )


def _detector_hover(name: str, score: DetectorScore) -> str:
    status = f"<br>{STATUS[score.status]}: {score.reason}" if score.status != "ok" else ""
    return f"{name} {probability(score.score)}<br>{score.weights}{status}"


def styled(figure: go.Figure, height: int, top: int = 26) -> go.Figure:
    """The look that all figures share; `height` and `top` in pixels."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 16, "t": top, "b": 32},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 13, "family": FONT},
        hoverlabel={"align": "left"},
        dragmode=False,
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, fixedrange=True, automargin=True)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, fixedrange=True, automargin=True)
    return figure
