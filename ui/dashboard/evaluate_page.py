"""Labelled media through the pipeline: start an evaluation, follow it, read its figures, open earlier ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from ui.client import ApiError
from ui.dashboard import operator, session
from ui.dashboard.evaluation_view import show_evaluation
from ui.errors import UsageError
from ui.evaluations import Asked, Evaluation, Evaluations
from ui.labelled_sets import from_files, from_zip
from ui.operator_cards import state
from ui.operator_words import EVALUATION, OPEN, SUITES, WAYS, count, when

LEAD = (
    "How good are the answers on media whose truth you know? Every file is analysed as on the page Analyse, with the "
    "weights installed on this dashboard's machine, and compared with its label. Figures come with 95 % intervals."
)
PLACE_HELP = (
    "A folder with real/ and fake/ in it, or a MANIFEST.csv with the columns path and label, on the machine that this "
    "dashboard runs on. docs/evaluation.md has the optional columns."
)
ON_MACHINE, HEAPS, ZIP = WAYS


def show() -> None:
    st.title("Evaluate")
    if not operator.let_in():
        return
    kept = Evaluations()
    opened = kept.get(str(st.query_params.get("evaluation", "")))
    if opened is not None:
        if st.button("All evaluations", icon=":material/arrow_back:", type="tertiary"):
            _open(None)
        show_evaluation(kept, opened)
        return
    st.html(f'<p class="um-lead">{LEAD}</p>')
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
            "The labelled media", [ON_MACHINE, HEAPS, ZIP], default=ON_MACHINE, required=True, key="evaluate-way"
        )
        place, archive = "", None
        real: list[Any] = []
        fake: list[Any] = []
        if way == ON_MACHINE:
            place = st.text_input(
                "Folder or manifest", key="evaluate-place", placeholder="/data/labelled", help=PLACE_HELP
            )
        elif way == HEAPS:
            left, right = st.columns(2, gap="medium")
            real = left.file_uploader("Real ones", accept_multiple_files=True, key="evaluate-real") or []
            fake = right.file_uploader("Fake ones", accept_multiple_files=True, key="evaluate-fake") or []
        else:
            archive = st.file_uploader(
                "A ZIP with folders real and fake, or with a MANIFEST.csv", type="zip", key="evaluate-zip"
            )
        chosen = _options()
        if st.button("Evaluate", type="primary", icon=":material/play_arrow:"):
            given = {"place": place.strip(), "real": real, "fake": fake, "archive": archive}
            made = operator.act(lambda: _start(kept, given, chosen))
            if made is not None:
                _open(made)


def _options() -> dict[str, Any]:
    with st.expander("Options"):
        detectors = st.multiselect(
            "Detectors", _detectors(), key="evaluate-detectors", placeholder="All that have weights"
        )
        perturb = st.selectbox(
            "Robustness", list(SUITES), format_func=lambda suite: SUITES[suite], key="evaluate-perturb",
            help="Every file again after each step. Each step costs as much as the run without.",
        )  # fmt: skip
        limit = st.number_input(
            "At most so many files", min_value=1, value=None, step=1, key="evaluate-limit", placeholder="all of them",
            help="Spread over data sets and over real and fake.",
        )  # fmt: skip
        fitted = st.checkbox(
            "Measure files that the calibration or the fusion was fitted on too", key="evaluate-fitted",
            help="Figures on them flatter. Without this, such files stop the run.",
        )  # fmt: skip
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
        with st.spinner("Unpacking"):
            return kept.start(asked, lambda folder: len(from_zip(archive, folder).left_out))
    if real or fake:
        asked = Asked(name=f"{len(real)} real, {len(fake)} fake, uploaded", by=by, **chosen)
        with st.spinner("Keeping the files"):
            return kept.start(asked, lambda folder: len(from_files(real, fake, folder).left_out))
    raise UsageError("no labelled media are given", "name a folder or upload some")


def _earlier(kept: Evaluations) -> None:
    found = kept.all()
    st.subheader("Evaluations")
    if not found:
        st.html('<p class="um-small">None yet.</p>')
    for one in found:
        with st.container(border=True, horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            if st.button(f"**{operator.plain(one.asked.name)}**", key=f"open-{one.id}", type="tertiary", icon=OPEN):
                _open(one)
            st.html(f"{state(EVALUATION[one.state()])}<p class='um-small'>{_line(one)}</p>", width="content")


def _line(one: Evaluation) -> str:
    """When, of how many files, the fused AUC."""
    result = None if one.running else one.result
    parts = [when(one.asked.created)]
    if result is not None:
        parts.append(count(int(result["items"]), "file"))
        area = (result["overall"] or {}).get("auc") or {}
        if area.get("value") is not None:
            parts.append(f"AUC {area['value']:.3f}")
    return " · ".join(parts)
