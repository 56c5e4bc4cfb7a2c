"""Figures of the operator's pages: a run's curves, latencies by stage, scores then and now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from ui import training_words as texts
from ui.operator_words import (
    DRIFT_NEWER,
    DRIFT_NEWER_HOVER,
    DRIFT_OLDER,
    DRIFT_OLDER_HOVER,
    STAGES_HOVER,
    TIMINGS,
    seconds,
)
from ui.palette import PALETTE
from ui.plots import ROW_PX, styled
from ui.training_log import Curves
from ui.words import AXIS_FAKE, AXIS_REAL, SECONDS

NEWER, OLDER = PALETTE[0], PALETTE[1]


def losses_figure(found: Curves) -> go.Figure:
    """Training and validation loss over the epochs; within epochs the loss of single steps, thin."""
    figure = go.Figure()
    if found.steps:
        within, single = zip(*found.steps, strict=True)
        line = {"color": PALETTE[0], "width": 1}
        name = texts.STEPS_LINE
        figure.add_trace(go.Scatter(x=within, y=single, name=name, mode="lines", line=line, opacity=0.45))
    at = [one.epoch for one in found.epochs]
    for name, loss, colour, symbol, dash in (
        (texts.TRAINING_LINE, [one.train_loss for one in found.epochs], PALETTE[0], "circle", "solid"),
        (texts.VALIDATION_LINE, [one.val_loss for one in found.epochs], PALETTE[1], "diamond", "dash"),
    ):
        figure.add_trace(_line(at, loss, name, colour, symbol, dash))
    figure.update_yaxes(title={"text": texts.LOSS_AXIS, "font": {"size": 12}}, rangemode="tozero")
    return _over_epochs(figure, found)


def auc_figure(found: Curves) -> go.Figure:
    """Validation AUC over the epochs, the best marked."""
    at, areas = [one.epoch for one in found.epochs], [one.auc for one in found.epochs]
    figure = go.Figure(_line(at, areas, texts.AUC_LINE, PALETTE[2], "circle", "solid"))
    if found.best is not None:
        marker = {"size": 16, "symbol": "star", "color": PALETTE[2]}
        best = texts.BEST_POINT.format(auc=found.best.auc, epoch=found.best.epoch)
        figure.add_trace(go.Scatter(x=[found.best.epoch], y=[found.best.auc], name=best, mode="markers", marker=marker))
    figure.add_hline(y=0.5, line={"color": "#808792", "width": 1, "dash": "dot"})
    figure.update_yaxes(title={"text": texts.AUC_AXIS, "font": {"size": 12}}, range=[min([0.45, *areas]) - 0.02, 1.02])
    return _over_epochs(figure, found)


def _line(x: Sequence[Any], y: Sequence[Any], name: str, colour: str, symbol: str, dash: str) -> go.Scatter:
    at = texts.AT_EPOCH.format(epoch="%{x}")
    return go.Scatter(
        x=x, y=y, name=name, mode="lines+markers", line={"color": colour, "width": 2.4, "dash": dash},
        marker={"size": 8, "symbol": symbol}, hovertemplate=f"{name} %{{y:.4f}}<br>{at}<extra></extra>",
    )  # fmt: skip


def _over_epochs(figure: go.Figure, found: Curves) -> go.Figure:
    last = max([1.0, *(float(one.epoch) for one in found.epochs), *(at for at, _ in found.steps[-1:])])
    figure.update_xaxes(title={"text": texts.EPOCH_AXIS, "font": {"size": 12}}, range=[0, last * 1.04], tickformat="d")
    if last <= 12:
        figure.update_xaxes(dtick=1)
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}, showlegend=True)
    styled(figure, 300, top=40)
    figure.update_layout(margin={"b": 44})
    return figure


def stages_figure(stages: Mapping[str, Mapping[str, Any]]) -> go.Figure:
    """Each stage's median as a bar, and a line to its 95th percentile."""
    ordered = sorted(stages.items(), key=lambda item: item[1]["median"])
    names = [TIMINGS.get(name, name) for name, _ in ordered]
    medians = [one["median"] for _, one in ordered]
    tails = [max(one["p95"] - one["median"], 0.0) for _, one in ordered]
    told = [
        STAGES_HOVER.format(name=name, median=seconds(one["median"]), tail=seconds(one["p95"]), count=one["n"])
        for name, (_, one) in zip(names, ordered, strict=True)
    ]
    figure = go.Figure(
        go.Bar(
            x=medians, y=names, orientation="h", width=0.5, marker={"color": PALETTE[0], "cornerradius": 4},
            error_x={"type": "data", "array": tails, "symmetric": False, "arrayminus": [0] * len(tails),
                     "color": "#808792", "thickness": 2, "width": 7},
            hovertext=told, hoverinfo="text",
        )
    )  # fmt: skip
    figure.update_xaxes(title={"text": SECONDS, "font": {"size": 12}}, rangemode="tozero")
    figure.update_yaxes(showgrid=False)
    return styled(figure, ROW_PX * len(names) + 70)


def drift_figure(one: Mapping[str, Any]) -> go.Figure:
    """Shares of the scores in ten bins: the newer half filled, the older one as a line."""
    middles = [(bin_ + 0.5) / 10 for bin_ in range(10)]
    newer, older = (_shares(one[side]) for side in ("newer", "older"))
    hover = f"{DRIFT_NEWER_HOVER.format(share='%{y:.0%}')}<extra></extra>"
    figure = go.Figure(
        go.Bar(x=middles, y=newer, name=DRIFT_NEWER, width=0.085, marker={"color": NEWER},
               opacity=0.75, hovertemplate=hover)
    )  # fmt: skip
    look: dict[str, Any] = {"line": {"color": OLDER, "width": 2.4}, "marker": {"size": 8, "symbol": "diamond"}}
    hover = f"{DRIFT_OLDER_HOVER.format(share='%{y:.0%}')}<extra></extra>"
    name = DRIFT_OLDER
    figure.add_trace(go.Scatter(x=middles, y=older, name=name, mode="lines+markers", hovertemplate=hover, **look))
    figure.update_xaxes(range=[0, 1], tickvals=[0, 0.5, 1], ticktext=[AXIS_REAL, "0.5", AXIS_FAKE])
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return styled(figure, 250, top=36)


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]
