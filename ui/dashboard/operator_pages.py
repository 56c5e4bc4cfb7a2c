"""The pages of the operator's side, for the menu: Models is everybody's, the others are shown to operators."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from ui.dashboard import evaluate_page, models_page, operate_page, operator, training_page

OPERATORS: tuple[tuple[Callable[[], None], str], ...] = (
    (evaluate_page.show, "Evaluate"),
    (training_page.show, "Training"),
    (operate_page.show, "Operate"),
)


def pages() -> list[st.Page]:
    """For st.navigation. A page that is not in somebody's menu says why when it is opened by its address."""
    shown = "visible" if operator.is_operator() else "hidden"
    models = st.Page(models_page.show, title="Models", url_path="models")
    return [models, *(st.Page(show, title=name, url_path=name.lower(), visibility=shown) for show, name in OPERATORS)]
