"""Figures of a result, the same on every page; they need nothing but the result."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from detectors.result import AnalysisResult, DetectorScore, FaceResult
from ui.words import STATUS, VERDICTS, clock, probability

PALETTE = ("#5b6ee1", "#e0812f", "#1f9bb0", "#c2559d", "#8a9a2b", "#8c6bd8", "#b5533c", "#4f8f5b")
"""Told apart without colour vision by lightness and order; none of them is a verdict's colour."""
INK = "#808792"
"""Readable on white and on near-black, so that one figure serves both."""
GRID = "rgba(128, 135, 146, 0.22)"
ROW_PX = 46


def colours(names: list[str]) -> dict[str, str]:
    """A colour for each detector, the same in every figure of a result."""
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(sorted(names))}


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
            x=score.score, y=name, text=probability(score.score), showarrow=False, yshift=17, font={"size": 12}
        )
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
            x=face.fused, y="together", text=f"<b>{probability(face.fused)}</b>", showarrow=False, yshift=18
        )
        names = [*names, "together"]
    figure.add_vline(x=result.threshold, line={"color": INK, "width": 1.5, "dash": "dot"})
    ticks = ["0 real", "", "0.5", "", "1 fake"]
    figure.update_xaxes(range=[-0.02, 1.02], tickvals=[0, 0.25, 0.5, 0.75, 1], ticktext=ticks)
    figure.update_yaxes(categoryorder="array", categoryarray=names, showgrid=False)
    return _styled(figure, ROW_PX * len(names) + 56)


def timeline_figure(result: AnalysisResult, face: FaceResult) -> go.Figure | None:
    """Every detector's score over time for one person, against the threshold; None where nothing has a time axis."""
    tint = colours(detector_names(result))
    figure = go.Figure()
    for name, score in sorted(face.detectors.items()):
        moments = sorted(score.frame_scores, key=lambda moment: moment.time)
        if len(moments) < 2:
            continue
        texts = [f"{name} {probability(m.score)}<br>{clock(m.time)}, frame {m.frame}" for m in moments]
        figure.add_trace(
            go.Scatter(
                x=[m.time for m in moments], y=[m.score for m in moments], name=name, mode="lines+markers",
                line={"color": tint[name], "width": 2.2, "shape": "linear"}, marker={"size": 6},
                hovertext=texts, hoverinfo="text", opacity=1.0 if score.status == "ok" else 0.45,
            )
        )  # fmt: skip
    if not figure.data:
        return None
    figure.add_hline(y=result.threshold, line={"color": INK, "width": 1.5, "dash": "dot"})
    figure.update_yaxes(range=[-0.03, 1.03], tickvals=[0, 0.5, 1], ticktext=["real", "0.5", "fake"])
    figure.update_xaxes(title={"text": "seconds", "font": {"size": 12}}, rangemode="tozero", zeroline=False)
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}, showlegend=True)
    return _styled(figure, 260, top=34)


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
    return _styled(figure, ROW_PX * len(ordered) + 56)


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


def _styled(figure: go.Figure, height: int, top: int = 26) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 16, "t": top, "b": 32},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 13},
        hoverlabel={"align": "left"},
        dragmode=False,
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, fixedrange=True, automargin=True)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, fixedrange=True, automargin=True)
    return figure
