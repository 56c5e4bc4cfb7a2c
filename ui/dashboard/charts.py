"""Figures on a page: one look, one way, readable on light and on dark."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import streamlit as st

INKS = {"light": "#585e6b", "dark": "#b1b7c4"}
"""Of axes and numbers: at least 4.5 to 1 on the page's background (WCAG AA), which one grey cannot be on both."""


def chart(figure: go.Figure, key: str, alt: str, **more: Any) -> Any:
    """`alt` says in words what the figure shows; `more` goes to st.plotly_chart, whose answer it gives."""
    ink = INKS.get(str(st.context.theme.type), INKS["light"])
    figure.update_layout(font={"color": ink})
    figure.update_xaxes(tickfont={"color": ink}, title_font={"color": ink})
    figure.update_yaxes(tickfont={"color": ink}, title_font={"color": ink})
    figure.update_annotations(font={"color": ink})
    return st.plotly_chart(figure, config={"displayModeBar": False}, key=key, alt=alt, **more)
