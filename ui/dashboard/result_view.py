"""One result on the page: verdict, who says what, each person over time and in evidence, the media, what to take."""

from __future__ import annotations

from functools import partial
from html import escape

import streamlit as st

from detectors.result import AnalysisResult, FaceResult
from ui.axes import contributions_axis, scores_axis
from ui.cards import credentials_card, decoded, definitions, notices, table, told_by_the_file, verdict_card
from ui.client import Client
from ui.dashboard import files, texts
from ui.dashboard.browser import breathe
from ui.dashboard.evidence import fetch_ahead
from ui.dashboard.people import show_people
from ui.dashboard.session import token
from ui.media_signs import encoding_signs
from ui.words import RE_ENCODED, STATUS, agreement_words, deciding_face, probability


def show_result(client: Client, analysis: str, result: AnalysisResult) -> None:
    """Everything that the API knows of one analysis."""
    st.html(verdict_card(result))
    if warnings := notices(result):
        st.html(warnings)
    face, shown = deciding_face(result), None
    if face is not None:
        breathe(f"{analysis}-who")
        _who_says_what(client, result, face)
        breathe(f"{analysis}-people")
        shown = show_people(client, analysis, result)
        breathe(f"{analysis}-media")
    _media(result)
    breathe(f"{analysis}-take")
    _take(client, analysis, result)
    if shown is not None:
        fetch_ahead(client, analysis, shown)


def _who_says_what(client: Client, result: AnalysisResult, face: FaceResult) -> None:
    values = "; ".join(f"{name} {value:+.2f}" for name, value in sorted(face.contributions.items()))
    moves = contributions_axis(face, texts.ADDS_UP_ALT.format(values=values))
    left, right = st.columns([3, 2], gap="large") if moves else (st.container(), None)
    with left:
        st.subheader(texts.WHO)
        st.html(f'<p class="um-small">{texts.WHO_HINT}</p>')
        scores = "; ".join(f"{name} {probability(one.score)}" for name, one in sorted(face.detectors.items()))
        alt = texts.WHO_ALT.format(track=face.track, scores=scores)
        st.html(scores_axis(result, face, alt))
    if moves and right:
        with right:
            st.subheader(texts.ADDS_UP)
            st.html(f'<p class="um-small">{texts.ADDS_UP_HINT}</p>')
            st.html(moves)
    if agreed := agreement_words(face):
        st.html(f'<p class="um-said">{escape(agreed)}</p>')
    with st.expander(texts.AS_TABLE):
        kinds = files.map_kinds(client, token())
        rows = [
            (
                name,
                probability(one.score) + (f" ({STATUS[one.status]}: {one.reason})" if one.status != "ok" else ""),
                f"{face.contributions[name]:+.2f}" if name in face.contributions else "–",
                texts.MAP_SHORT.get(kinds.get(name, ""), "–"),
                one.weights,
            )
            for name, one in sorted(face.detectors.items(), key=lambda item: -(item[1].score or -1.0))
        ]
        st.html(table(texts.TABLE_HEAD, rows))


def _media(result: AnalysisResult) -> None:
    st.subheader(texts.MEDIA)
    left, right = st.columns(2, gap="large")
    with left:
        st.html(f"<h4>{texts.MEDIA_DECODED}</h4>{definitions(decoded(result))}")
    with right:
        signs = "".join(f"<li>{escape(sign)}</li>" for sign in encoding_signs(result))
        said = told_by_the_file(result)
        told = definitions(said) if said else f'<p class="um-small">{texts.MEDIA_SAYS_NOTHING}</p>'
        st.html(
            f'<h4>{texts.CREDENTIALS}</h4>{credentials_card(result.provenance)}<p class="um-small">'
            f'{texts.CREDENTIALS_HINT}</p><h4>{RE_ENCODED}</h4><ul class="um-list">{signs}</ul>'
            f'<h4>{texts.MEDIA_SAYS}</h4><p class="um-small">{texts.MEDIA_SAYS_HINT if said else ""}</p>{told}'
        )


def _take(client: Client, analysis: str, result: AnalysisResult) -> None:
    st.subheader(texts.TAKE)
    st.caption(texts.TAKE_HINT)
    name = result.media.name
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            texts.TAKE_REPORT, partial(files.report, client, analysis), f"{name}.unmask.html", "text/html",
            on_click="ignore", icon=":material/description:", key=f"report-{analysis}", type="primary",
        )  # fmt: skip
        st.download_button(
            texts.TAKE_PDF, partial(files.report, client, analysis, "pdf"), f"{name}.unmask.pdf", "application/pdf",
            on_click="ignore", icon=":material/picture_as_pdf:", key=f"pdf-{analysis}",
        )  # fmt: skip
        st.download_button(
            texts.TAKE_REPORT_JSON, partial(files.report, client, analysis, "json"), f"{name}.unmask-report.json",
            "application/json", on_click="ignore", icon=":material/fact_check:", key=f"report-json-{analysis}",
        )  # fmt: skip
        if result.media.kind in texts.TAKE_DRAWN and result.faces:
            ending, kind = ("mp4", "video/mp4") if result.media.kind == "video" else ("jpg", "image/jpeg")
            st.download_button(
                texts.TAKE_DRAWN[result.media.kind], partial(files.annotated, client, token(), analysis, result),
                f"{name}.annotated.{ending}", kind, on_click="ignore", icon=":material/movie_edit:",
                key=f"drawn-{analysis}", help=texts.TAKE_DRAWN_HELP,
            )  # fmt: skip
        st.download_button(
            texts.TAKE_JSON, partial(files.document, result), f"{name}.unmask.json", "application/json",
            on_click="ignore", icon=":material/data_object:", key=f"json-{analysis}",
        )  # fmt: skip
        st.html(
            f'<a class="um-small" href="?analysis={escape(analysis)}" target="_blank" rel="noopener">{texts.LINK}</a>',
            width="content",
        )
