"""The cards of the detectors that take part: what each looks at, where it comes from, how good it was measured."""

from __future__ import annotations

from html import escape
from typing import Any

import streamlit as st

from ui.cards import error_card
from ui.client import ApiError
from ui.dashboard.analyse_page import api

LEAD = (
    "Each of these is a published method with weights of its own. The figures were measured on media that its training "
    "never saw; they hold for that kind of media and may not for yours."
)


def show() -> None:
    st.title("Detectors")
    st.html(f'<p class="um-lead">{LEAD}</p>')
    try:
        cards = api().detectors()
    except ApiError as error:
        st.html(error_card("Detectors", error.reason, error.hint))
        return
    if not cards:
        st.html(error_card("Detectors", "no detector has trained weights here", "import or train some"))
    for card in cards:
        st.html(_card(card))


def _card(card: dict[str, Any]) -> str:
    if not card.get("available", True):
        return error_card(str(card["name"]), str(card.get("reason", "its weights cannot be used")))
    paper = f"{escape(str(card['paper']))}, {card['year']}"
    if str(card["url"]).startswith("https://"):
        paper = f'<a href="{escape(card["url"])}" target="_blank" rel="noopener">{paper}</a>'
    rows = [
        ("Paper", paper),
        ("Weights", f"{escape(card['weights'])}, {card['parameters']:,} parameters"),
        ("Trained on", escape(card["data"])),
        ("Licence", escape(card["licence"])),
        ("Limits", escape(card["limits"])),
    ]
    facts = "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in rows if value)
    calibrated = "" if card["calibrated"] else '<span class="um-tag">not calibrated</span>'
    tags = f'<span class="um-tag">{escape(card["profile"])}</span>{calibrated}'
    return (
        f'<section class="um-card"><h3>{escape(card["title"])}{tags}</h3><p>{escape(card["looks_at"])}</p>'
        f'{_measured(card["metrics"])}<dl class="um-facts">{facts}</dl></section>'
    )


def _measured(metrics: list[dict[str, Any]]) -> str:
    if not metrics:
        return '<p class="um-small">Not measured yet.</p>'
    rows = "".join(
        f"<tr><td>{escape(str(m['metric']))}</td><td>{m['value']:.3g}</td><td>{_interval(m)}</td>"
        f"<td>{m['n']:,}</td><td>{escape(str(m['set']))}</td></tr>"
        for m in metrics
    )
    head = "<tr><th>Figure</th><th>Value</th><th>95 % interval</th><th>n</th><th>Measured on</th></tr>"
    return f'<table class="um-measured"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def _interval(metric: dict[str, Any]) -> str:
    if metric.get("low") is None or metric.get("high") is None:
        return "–"
    return f"{metric['low']:.3g} to {metric['high']:.3g}"
