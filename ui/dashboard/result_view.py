"""One result on the page: verdict, who says what, each person over time and in heatmaps, facts, downloads."""

from __future__ import annotations

import json
from html import escape

import streamlit as st

from detectors.result import AnalysisResult, DetectorScore, FaceResult
from ui.cards import crops, facts, notices, verdict_card
from ui.client import ApiError, Client
from ui.overlay import overlay_jpeg
from ui.plots import contributions_figure, scores_figure, timeline_figure
from ui.words import clock, deciding_face, probability, quality_words

PLOT = {"displayModeBar": False}


def show_result(client: Client, analysis: str, result: AnalysisResult) -> None:
    """Everything that the API knows of one analysis."""
    st.html(verdict_card(result))
    if warnings := notices(result):
        st.html(warnings)
    face = deciding_face(result)
    if face is not None:
        _who_says_what(result, face)
        _people(client, analysis, result, face)
    _facts(result)


def _who_says_what(result: AnalysisResult, face: FaceResult) -> None:
    moves = contributions_figure(result, face)
    left, right = st.columns([3, 2], gap="large") if moves else (st.container(), None)
    with left:
        st.subheader("Who says what")
        st.html('<p class="um-small">Calibrated scores of the face that decides; dotted: the threshold.</p>')
        st.plotly_chart(scores_figure(result, face), config=PLOT, key=f"scores-{result.media.sha256}")
    if moves and right:
        with right:
            st.subheader("What it adds up to")
            st.html('<p class="um-small">How far each detector moves the common verdict.</p>')
            st.plotly_chart(moves, config=PLOT, key=f"moves-{result.media.sha256}")


def _people(client: Client, analysis: str, result: AnalysisResult, deciding: FaceResult) -> None:
    st.subheader("The face" if len(result.faces) == 1 else "The people")
    if len(result.faces) == 1:
        _person(client, analysis, result, deciding)
        return
    ordered = sorted(result.faces, key=lambda face: -(face.fused or -1.0))
    titles = [f"Person {face.track} · {probability(face.fused)}" for face in ordered]
    for tab, face in zip(st.tabs(titles), ordered, strict=True):
        with tab:
            _person(client, analysis, result, face)


def _person(client: Client, analysis: str, result: AnalysisResult, face: FaceResult) -> None:
    picture, time = st.columns([1, 4], gap="medium", vertical_alignment="center")
    with picture:
        if face.thumbnail and (content := _artifact(client, analysis, face.thumbnail)):
            st.image(content, width=160, alt=f"person {face.track}")
    with time:
        figure = timeline_figure(result, face)
        if figure is not None:
            st.plotly_chart(figure, config=PLOT, key=f"time-{result.media.sha256}-{face.track}")
        span = f"{clock(face.times[0])} to {clock(face.times[1])}, " if result.media.kind == "video" else ""
        frames = f"{face.frames} frame{'s' if face.frames != 1 else ''}"
        quality = f"; {', '.join(quality_words(face))}" if face.quality else ""
        st.html(f'<p class="um-small">{span}{frames}{escape(quality)}</p>')
    mapped = {name: score for name, score in face.detectors.items() if score.heatmaps}
    if mapped:
        _heatmaps(client, analysis, result, face, mapped)


@st.fragment
def _heatmaps(
    client: Client, analysis: str, result: AnalysisResult, face: FaceResult, mapped: dict[str, DetectorScore]
) -> None:
    """A fragment: moving the slider draws these pictures anew, not the page."""
    key = f"{result.media.sha256}-{face.track}"
    choose, fade = st.columns([3, 2], gap="large", vertical_alignment="bottom")
    with choose:
        names = sorted(mapped)
        name = st.segmented_control(
            "Where it looks", names, default=names[0], required=True, key=f"map-{key}",
            help="Brighter means that this detector took more of its evidence for a manipulation from there.",
        )  # fmt: skip
    with fade:
        opacity = st.slider("Opacity of the heatmap", 0, 100, 65, format="%d %%", key=f"fade-{key}") / 100
    shown = sorted(mapped[name or names[0]].heatmaps, key=lambda heatmap: heatmap.time)
    pictures = []
    for heatmap in shown:
        crop, drawn = _artifact(client, analysis, heatmap.crop), _artifact(client, analysis, heatmap.map)
        if crop is not None and drawn is not None:
            when = f"{clock(heatmap.time)} · " if result.media.kind == "video" else ""
            pictures.append((overlay_jpeg(crop, drawn, opacity), f"{when}score {probability(heatmap.score)}"))
    st.html(crops(pictures, f"face of person {face.track} with the heatmap of {name}"))


@st.cache_data(max_entries=512, show_spinner=False)
def _artifact(_client: Client, analysis: str, name: str) -> bytes | None:
    """None where the analysis was deleted meanwhile: its scores are still worth showing."""
    try:
        return _client.artifact(analysis, name)
    except ApiError:
        return None


def _facts(result: AnalysisResult) -> None:
    st.subheader("The media")
    st.html(facts(result))
    document = json.dumps(result.model_dump(mode="json"), indent=1)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Download the result as JSON", document, f"{result.media.name}.unmask.json", "application/json",
            on_click="ignore", icon=":material/download:", key=f"json-{result.media.sha256}",
        )  # fmt: skip
