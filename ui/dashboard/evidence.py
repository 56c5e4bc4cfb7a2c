"""Why the detectors say it: heatmaps over the face, landmarks in motion, neighbours among reference faces.

Each is a fragment: changing it draws it anew, not the page.
"""

from __future__ import annotations

from html import escape

import streamlit as st

from detectors.landmark_track import LandmarkTrack, unpack
from detectors.result import AnalysisResult, FaceResult
from ui.cards import crops, table
from ui.client import Client
from ui.dashboard import files, texts
from ui.dashboard.charts import chart
from ui.embedding_plot import KINDS, embedding_figure, placed_faces
from ui.landmark_plot import motion_figure, paths_figure, typical_motion
from ui.overlay import overlay_jpeg
from ui.words import MAP_KINDS, clock, probability

ORDER = ("native", "landmarks", "grad-cam")


@st.fragment
def show_heatmaps(
    client: Client, analysis: str, result: AnalysisResult, face: FaceResult, kinds: dict[str, str]
) -> None:
    """Maps of one detector over the crops it looked at; those that make their own come first."""
    mapped = {name: score for name, score in face.detectors.items() if score.heatmaps}
    if not mapped:
        return
    key = f"{analysis}-{face.track}"
    names = sorted(mapped, key=lambda name: (_rank(kinds.get(name, "")), name))
    st.html(f'<h4 class="um-evidence">{texts.LOOKS}</h4><p class="um-small">{texts.LOOKS_HELP}</p>')
    choose, fade = st.columns([3, 2], gap="large", vertical_alignment="bottom")
    with choose:
        name = st.segmented_control(
            texts.LOOKS, names, default=names[0], required=True, key=f"map-{key}", label_visibility="collapsed"
        )
    with fade:
        opacity = st.slider(texts.OPACITY, 0, 100, 65, format="%d %%", key=f"fade-{key}") / 100
    pictures = []
    for heatmap in sorted(mapped[name].heatmaps, key=lambda heatmap: heatmap.time):
        crop = files.artifact(client, analysis, heatmap.crop)
        drawn = files.artifact(client, analysis, heatmap.map)
        if crop is not None and drawn is not None:
            when = f"{clock(heatmap.time)} · " if result.media.kind == "video" else ""
            pictures.append((overlay_jpeg(crop, drawn, opacity), f"{when}score {probability(heatmap.score)}"))
    score = probability(mapped[name].score)
    st.html(crops(pictures, texts.HEATMAP_ALT.format(track=face.track, name=name, score=score)))
    if kind := MAP_KINDS.get(kinds.get(name, "")):
        st.html(f'<p class="um-small">{escape(texts.MAP_SAID.format(name=name, kind=kind))}</p>')


def fetch_ahead(client: Client, analysis: str, face: FaceResult) -> None:
    """The pictures of the detectors that are not shown yet, so that switching to one does not wait for the API. Called
    when the page is drawn."""
    for score in face.detectors.values():
        for heatmap in score.heatmaps:
            files.artifact(client, analysis, heatmap.crop)
            files.artifact(client, analysis, heatmap.map)


def _rank(kind: str) -> int:
    return ORDER.index(kind) if kind in ORDER else len(ORDER)


@st.fragment
def show_landmarks(client: Client, analysis: str, result: AnalysisResult, face: FaceResult) -> None:
    """The landmarks' paths around a moment, before and after calibration, and their movement over the track."""
    content = files.artifact(client, analysis, face.landmarks) if face.landmarks else None
    if content is None:
        return
    try:
        track = _track(content)
    except ValueError:  # of another version
        return
    if len(track.frames) < 2:
        return
    st.html(f'<h4 class="um-evidence">{texts.LANDMARKS}</h4><p class="um-small">{texts.LANDMARKS_HINT}</p>')
    times = [round(float(time), 2) for time in track.times]
    key = f"{analysis}-{face.track}"
    chosen = st.select_slider(
        texts.LANDMARKS_AT, range(len(times)), value=len(times) // 2, format_func=lambda index: f"{times[index]:.2f}",
        key=f"marks-{key}",
    )  # fmt: skip
    paths, motion = st.columns([3, 2], gap="large")
    raw, calibrated = typical_motion(track)
    with paths:
        alt = texts.LANDMARKS_ALT.format(clock=clock(times[chosen]))
        chart(paths_figure(track, chosen), key=f"paths-{key}", alt=alt)
    with motion:
        alt = texts.MOTION_ALT.format(raw=raw, calibrated=calibrated)
        chart(motion_figure(track, chosen), key=f"motion-{key}", alt=alt)
        st.html(f'<p class="um-small">{texts.MOTION_SAID.format(raw=raw, calibrated=calibrated)}</p>')


@st.cache_data(max_entries=16, show_spinner=False)
def _track(content: bytes) -> LandmarkTrack:
    return unpack(content)


@st.fragment
def show_neighbours(analysis: str, face: FaceResult) -> None:
    """The face on a detector's map of reference faces, and those nearest to it."""
    places = placed_faces(face)
    if not places:
        return
    key = f"{analysis}-{face.track}"
    st.html(f'<h4 class="um-evidence">{texts.AMONG}</h4><p class="um-small">{texts.AMONG_HELP}</p>')
    names = sorted(places)
    first = max(names, key=lambda name: face.detectors[name].score or 0.0)
    name = st.segmented_control(
        texts.AMONG, names, default=first, required=True, key=f"among-{key}", label_visibility="collapsed"
    )
    gallery, placed = places[name]
    nearest = [(KINDS.get(one.kind, one.kind), one.distance) for one in placed.neighbours]
    where, near = st.columns([3, 2], gap="large")
    with where:
        alt = texts.AMONG_ALT.format(nearest=", ".join(f"{kind} at {far:.1f}" for kind, far in nearest))
        chart(embedding_figure(gallery, placed), key=f"place-{key}", alt=alt)
    with near:
        st.html(f"<h5>{texts.NEIGHBOURS}</h5>")
        rows = [(str(number), kind, f"{far:.2f}") for number, (kind, far) in enumerate(nearest, 1)]
        st.html(table(texts.NEIGHBOURS_HEAD, rows))
        st.html(f'<p class="um-small">{texts.NEIGHBOURS_SAID}</p>')
