"""The look of the figures that plotly draws: the map of reference faces, and the operator's pages."""

from __future__ import annotations

import plotly.graph_objects as go

FONT = '"Source Sans", "Source Sans Pro", system-ui, sans-serif'
"""What Streamlit and Gradio set their pages in."""
INK = "#808792"
"""Readable on white and on near-black, so that one figure serves both."""
GRID = "rgba(128, 135, 146, 0.22)"
ROW_PX = 46


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
