"""The pages of the operator's side, for the menu: Models is everybody's, the others are shown to operators."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from ui.dashboard import evaluate_page, models_page, operate_page, operator, training_page
from ui.operator_words import EVALUATE, MODELS, OPERATE, TRAINING

OPERATORS: tuple[tuple[Callable[[], None], str, str], ...] = (
    (evaluate_page.show, EVALUATE, "evaluate"),
    (training_page.show, TRAINING, "training"),
    (operate_page.show, OPERATE, "operate"),
)


def pages() -> list[st.Page]:
    """For st.navigation. A page that is not in somebody's menu says why when it is opened by its address."""
    shown = "visible" if operator.is_operator() else "hidden"
    models = st.Page(models_page.show, title=MODELS, url_path="models")
    return [models, *(st.Page(show, title=name, url_path=path, visibility=shown) for show, name, path in OPERATORS)]
