"""Labelled media through the pipeline: start an evaluation, follow it, read its figures, open earlier ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from ui import evaluation_words as texts
from ui.client import ApiError
from ui.dashboard import operator, session
from ui.dashboard.evaluation_view import show_evaluation
from ui.errors import UsageError
from ui.evaluations import Asked, Evaluation, Evaluations
from ui.labelled_sets import from_files, from_zip
from ui.operator_cards import state
from ui.operator_words import EVALUATE, FILES, OPEN, count, when

ON_MACHINE, HEAPS, ZIP = texts.WAYS


def show() -> None:
    st.title(EVALUATE)
    if not operator.let_in():
        return
    kept = Evaluations()
    opened = kept.get(str(st.query_params.get("evaluation", "")))
    if opened is not None:
        if st.button(texts.ALL, icon=":material/arrow_back:", type="tertiary"):
            _open(None)
        show_evaluation(kept, opened)
        return
    st.html(f'<p class="um-lead">{texts.LEAD}</p>')
    _form(kept)
    _earlier(kept)


def _open(evaluation: Evaluation | None) -> None:
    if evaluation is None:
        st.query_params.clear()
    else:
        st.query_params["evaluation"] = evaluation.id
    st.rerun()


def _form(kept: Evaluations) -> None:
    with st.container(border=True):
        way = st.segmented_control(
            texts.MEDIA, [ON_MACHINE, HEAPS, ZIP], default=ON_MACHINE, required=True, key="evaluate-way"
        )
        place, archive = "", None
        real: list[Any] = []
        fake: list[Any] = []
        if way == ON_MACHINE:
            place = st.text_input(
                texts.PLACE, key="evaluate-place", placeholder=texts.PLACE_EXAMPLE, help=texts.PLACE_HELP
            )
        elif way == HEAPS:
            left, right = st.columns(2, gap="medium")
            real = left.file_uploader(texts.REAL_ONES, accept_multiple_files=True, key="evaluate-real") or []
            fake = right.file_uploader(texts.FAKE_ONES, accept_multiple_files=True, key="evaluate-fake") or []
        else:
            archive = st.file_uploader(texts.ZIP, type="zip", key="evaluate-zip")
        chosen = _options()
        if st.button(texts.START, type="primary", icon=":material/play_arrow:"):
            given = {"place": place.strip(), "real": real, "fake": fake, "archive": archive}
            made = operator.act(lambda: _start(kept, given, chosen))
            if made is not None:
                _open(made)


def _options() -> dict[str, Any]:
    with st.expander(texts.OPTIONS):
        detectors = st.multiselect(
            texts.DETECTORS, _detectors(), key="evaluate-detectors", placeholder=texts.DETECTORS_ALL
        )
        perturb = st.selectbox(
            texts.ROBUSTNESS, list(texts.SUITES), format_func=texts.SUITES.__getitem__, key="evaluate-perturb",
            help=texts.ROBUSTNESS_HELP,
        )  # fmt: skip
        limit = st.number_input(
            texts.LIMIT, min_value=1, value=None, step=1, key="evaluate-limit", placeholder=texts.LIMIT_NONE,
            help=texts.LIMIT_HELP,
        )  # fmt: skip
        fitted = st.checkbox(texts.FITTED, key="evaluate-fitted", help=texts.FITTED_HELP)
    return {"detectors": tuple(detectors), "perturb": perturb, "limit": limit, "allow_fitted": fitted}


def _detectors() -> list[str]:
    try:
        return [str(card["name"]) for card in session.api().detectors() if card.get("available", True)]
    except ApiError:
        return []


def _start(kept: Evaluations, given: dict[str, Any], chosen: dict[str, Any]) -> Evaluation:
    """Raises UsageError."""
    by = session.api().caller()["name"]
    if given["place"]:
        place = Path(given["place"]).expanduser().absolute()
        name = place.parent.name if place.suffix.lower() == ".csv" else place.name
        return kept.start(Asked(name=name or str(place), data=str(place), by=by, **chosen))
    real, fake, archive = given["real"], given["fake"], given["archive"]
    if archive is not None:
        asked = Asked(name=archive.name[:120], by=by, **chosen)
        with st.spinner(texts.UNPACKING):
            return kept.start(asked, lambda folder: len(from_zip(archive, folder).left_out))
    if real or fake:
        asked = Asked(name=texts.UPLOADED.format(real=len(real), fake=len(fake)), by=by, **chosen)
        with st.spinner(texts.KEEPING):
            return kept.start(asked, lambda folder: len(from_files(real, fake, folder).left_out))
    raise UsageError(*texts.NOTHING_GIVEN)


def _earlier(kept: Evaluations) -> None:
    found = kept.all()
    st.subheader(texts.EARLIER)
    if not found:
        st.html(f'<p class="um-small">{texts.NONE_YET}</p>')
    for one in found:
        with st.container(border=True, horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            if st.button(f"**{operator.plain(one.asked.name)}**", key=f"open-{one.id}", type="tertiary", icon=OPEN):
                _open(one)
            st.html(f"{state(texts.STATES[one.state()])}<p class='um-small'>{_line(one)}</p>", width="content")


def _line(one: Evaluation) -> str:
    """When, of how many files, the fused AUC."""
    result = None if one.running else one.result
    parts = [when(one.asked.created)]
    if result is not None:
        parts.append(count(int(result["items"]), *FILES))
        area = (result["overall"] or {}).get("auc") or {}
        if area.get("value") is not None:
            parts.append(texts.AREA.format(value=area["value"]))
    return " · ".join(parts)
