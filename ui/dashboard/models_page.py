"""The models that take part: what each looks at, where its weights come from, how good they were measured."""

from __future__ import annotations

import streamlit as st

from ui.client import ApiError
from ui.dashboard.session import api
from ui.operator_cards import model_card, trouble
from ui.operator_words import MODELS, MODELS_LEAD, NO_MODELS, NO_MODELS_HINT, NO_WEIGHTS


def show() -> None:
    st.title(MODELS)
    st.html(f'<p class="um-lead">{MODELS_LEAD}</p>')
    try:
        cards = api().detectors()
    except ApiError as error:
        st.html(trouble(MODELS, error.reason, error.hint))
        return
    if not cards:
        st.html(trouble(MODELS, NO_MODELS, NO_MODELS_HINT))
    for card in cards:
        if card.get("available", True):
            st.html(model_card(card))
        else:
            st.html(trouble(str(card["name"]), str(card.get("reason", NO_WEIGHTS))))
