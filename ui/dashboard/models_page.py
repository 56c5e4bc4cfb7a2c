"""The models that take part: what each looks at, where its weights come from, how good they were measured."""

from __future__ import annotations

import streamlit as st

from ui.client import ApiError
from ui.dashboard.session import api
from ui.operator_cards import model_card, trouble

LEAD = (
    "Each of these is a published method with weights of its own. The figures were measured on media that its training "
    "never saw; they hold for that kind of media and may not for yours."
)


def show() -> None:
    st.title("Models")
    st.html(f'<p class="um-lead">{LEAD}</p>')
    try:
        cards = api().detectors()
    except ApiError as error:
        st.html(trouble("Models", error.reason, error.hint))
        return
    if not cards:
        st.html(trouble("Models", "no detector has trained weights here", "import or train some"))
    for card in cards:
        if card.get("available", True):
            st.html(model_card(card))
        else:
            st.html(trouble(str(card["name"]), str(card.get("reason", "its weights cannot be used"))))
