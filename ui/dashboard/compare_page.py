"""Two or more analyses side by side: who says what of which file, and in what the files differ."""

from __future__ import annotations

from html import escape
from typing import Any

import streamlit as st

from detectors.result import AnalysisResult
from ui.axes import compared_axis
from ui.cards import error_card, table, verdict_card
from ui.client import ApiError, result_of
from ui.dashboard import files, texts
from ui.dashboard.session import api
from ui.words import (
    MEDIA_KINDS,
    VERDICTS,
    clock,
    codec_words,
    container_words,
    credentials_words,
    deciding_face,
    probability,
    quality_words,
    score_with_interval,
)

MOST = 4
"""Columns that a wide window has room for."""
LISTED = 100
"""Offered to choose from, the newest; older ones come from the history or a link."""


def show() -> None:
    st.title(texts.COMPARE)
    st.html(f'<p class="um-lead">{texts.COMPARE_LEAD}</p>')
    try:
        listed, _ = api().page(limit=LISTED)
    except ApiError as error:
        st.html(error_card(texts.COMPARE, error.reason, error.hint))
        return
    done = {str(job["id"]): job for job in listed if job["status"] == "done"}
    given = st.session_state.pop("compare-these", None) or _linked()
    if "compared" not in st.session_state:
        st.session_state["compared"] = []
    older = st.session_state.setdefault("compare-older", {})
    older |= {one: job for one in given if one and one not in done and (job := _finished(one))}
    done |= older
    if wanted := [one for one in given if one in done][:MOST]:
        st.session_state["compared"] = wanted
    if not done:
        st.html(f'<p class="um-lead">{texts.COMPARE_NONE}</p>')
        return
    st.session_state["compared"] = [one for one in st.session_state["compared"] if one in done]
    chosen = st.multiselect(
        texts.COMPARE_PICK, list(done), format_func=lambda one: _label(done[one]), max_selections=MOST, key="compared",
        placeholder=texts.COMPARE_PLACEHOLDER,
    )  # fmt: skip
    if len(chosen) < 2:
        st.html(f'<p class="um-small">{texts.COMPARE_FEW}</p>')
        return
    try:
        results = {one: result_of(api().status(one), one) for one in chosen}
    except ApiError as error:
        st.html(error_card(texts.COMPARE, error.reason, error.hint))
        return
    _side_by_side(results)


def _linked() -> list[str]:
    """What the link names (`?with=ID,ID`), once: from then on the reader chooses."""
    link = st.query_params.get("with", "")
    if link == st.session_state.get("compare-link", ""):
        return []
    st.session_state["compare-link"] = link
    return link.split(",")


def _finished(analysis: str) -> dict[str, Any] | None:
    """One that is not among the newest, in the form of these; None where there is none or it has no result."""
    try:
        found = api().status(analysis)
        result = result_of(found, analysis)
    except ApiError:
        return None
    return {"id": analysis, "name": str(found.get("name", result.media.name)), "verdict": result.verdict}


def _label(job: dict[str, Any]) -> str:
    sign = VERDICTS[job["verdict"]].sign if job["verdict"] in VERDICTS else ""
    return f"{sign} {job['name']}"


def names_of(results: list[AnalysisResult]) -> list[str]:
    """What each is called in figures: the file's name with its number, for two files may have the same."""
    return [f"{number} · {_short(result.media.name)}" for number, result in enumerate(results, 1)]


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:16]}…{name[-10:]}"


def _side_by_side(results: dict[str, AnalysisResult]) -> None:
    found = list(results.values())
    names = names_of(found)
    for place, (analysis, result), name in zip(
        st.columns(len(found), gap="medium"), results.items(), names, strict=True
    ):
        with place:
            face = deciding_face(result)
            picture = files.artifact(api(), analysis, face.thumbnail) if face and face.thumbnail else None
            if picture:
                st.image(picture, width=120, alt=texts.PERSON_ALT.format(track=face.track if face else ""))
            st.html(f'<div class="um-narrow">{verdict_card(result, name)}</div>')
    if any(result.faces for result in found):
        _scores(found, names)
    st.subheader(texts.COMPARE_FACTS)
    st.html(table([texts.COMPARE_HEAD, *names], rows(found)))


def _scores(found: list[AnalysisResult], names: list[str]) -> None:
    st.subheader(texts.COMPARE_SCORES)
    st.html(f'<p class="um-small">{texts.COMPARE_SCORES_HINT}</p>')
    each = zip(names, found, strict=True)
    told = "; ".join(texts.COMPARE_TOLD.format(name=name, score=probability(one.score)) for name, one in each)
    st.html(compared_axis(found, names, texts.COMPARE_ALT.format(scores=told)))
    for warning in incomparable(found):
        st.html(f'<ul class="um-notices"><li>{escape(warning)}</li></ul>')


def incomparable(results: list[AnalysisResult]) -> list[str]:
    """Why scores of these results do not compare, in sentences."""
    told = []
    weights: dict[str, set[str]] = {}
    for result in results:
        for face in result.faces:
            for name, one in face.detectors.items():
                weights.setdefault(name, set()).add(one.weights)
    told += [texts.COMPARE_WEIGHTS.format(name=name) for name, ran in sorted(weights.items()) if len(ran) > 1]
    versions = sorted({result.versions.get("unmask", "") for result in results})
    if len(versions) > 1:
        told.append(texts.COMPARE_VERSION.format(versions=", ".join(version or "?" for version in versions)))
    return told


def rows(results: list[AnalysisResult]) -> list[list[str]]:
    """What is worth telling apart, a row each, a column for each result."""
    columns: list[dict[str, str]] = []
    for result in results:
        media, face = result.media, deciding_face(result)
        columns.append(
            {
                "verdict": VERDICTS[result.verdict].title,
                "score": score_with_interval(result),
                "kind": MEDIA_KINDS.get(media.kind, media.kind),
                "codec": texts.COMPARE_CODEC.format(
                    codec=codec_words(media.codec), container=container_words(media.container)
                ),
                "size": f"{media.width} × {media.height}" if media.width else "–",
                "length": clock(media.duration_s) if media.duration_s else "–",
                "people": str(len(result.faces)),
                "quality": ", ".join(quality_words(face)) if face and face.quality else "–",
                "credentials": credentials_words(result.provenance),
            }
        )
    return [[title, *(column[key] for column in columns)] for key, title in texts.COMPARE_ROWS.items()]
