"""Why the detectors say it: heatmaps over the face, landmarks in motion, neighbours among reference faces.

A tab each, drawn when it is opened: all at once would hold the browser up. Changing one draws it anew, not the page.
"""

from __future__ import annotations

from functools import partial
from html import escape

import numpy as np
import streamlit as st

from detectors.landmark_track import LandmarkTrack, unpack
from detectors.result import AnalysisResult, FaceResult
from ui.cards import crops, table
from ui.client import Client
from ui.dashboard import files, texts
from ui.dashboard.browser import figure
from ui.dashboard.charts import chart
from ui.embedding_plot import embedding_figure, placed_faces
from ui.landmark_plot import motion_svg, paths_svg, typical_motion
from ui.overlay import overlay_jpeg
from ui.words import MAP_KINDS, REFERENCES, clock, probability

ORDER = ("native", "landmarks", "grad-cam")


@st.fragment
def show_evidence(
    client: Client, analysis: str, result: AnalysisResult, face: FaceResult, kinds: dict[str, str]
) -> None:
    """What there is of a person, the reader's choice of it drawn."""
    sections = {}
    if any(score.heatmaps for score in face.detectors.values()):
        sections[texts.LOOKS] = partial(show_heatmaps, client, analysis, result, face, kinds)
    if (track := _landmarks(client, analysis, face)) is not None:
        sections[texts.LANDMARKS] = partial(show_landmarks, f"{analysis}-{face.track}", track)
    if placed_faces(face):
        sections[texts.AMONG] = partial(show_neighbours, analysis, face)
    if not sections:
        return
    tabs = st.tabs(list(sections), key=f"evidence-{analysis}-{face.track}", on_change="rerun")
    for tab, show in zip(tabs, sections.values(), strict=True):
        if tab.open:
            with tab:
                show()


@st.fragment
def show_heatmaps(
    client: Client, analysis: str, result: AnalysisResult, face: FaceResult, kinds: dict[str, str]
) -> None:
    """Maps of one detector over the crops it looked at; those that make their own come first."""
    mapped = {name: score for name, score in face.detectors.items() if score.heatmaps}
    key = f"{analysis}-{face.track}"
    names = sorted(mapped, key=lambda name: (_rank(kinds.get(name, "")), name))
    told, fade = st.columns([3, 2], gap="large")
    with told:
        st.html(f'<p class="um-small">{texts.LOOKS_HELP}</p>')
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
            said = texts.HEATMAP_SCORE.format(score=probability(heatmap.score))
            pictures.append((overlay_jpeg(crop, drawn, opacity), when + said))
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


def _landmarks(client: Client, analysis: str, face: FaceResult) -> LandmarkTrack | None:
    """A person's landmarks, where there are some that move."""
    content = files.artifact(client, analysis, face.landmarks) if face.landmarks else None
    if content is None:
        return None
    try:
        track = _track(content)
    except ValueError:  # of another version
        return None
    return track if len(track.frames) > 1 and track.times[-1] > track.times[0] else None


@st.fragment
def show_landmarks(key: str, track: LandmarkTrack) -> None:
    """The landmarks' paths around a moment, before and after calibration, and their movement over the track."""
    st.html(f'<p class="um-small">{texts.LANDMARKS_HINT}</p>')
    first, last = float(track.times[0]), float(track.times[-1])
    at = st.slider(
        texts.LANDMARKS_AT, first, last, value=(first + last) / 2, step=(last - first) / (len(track.frames) - 1),
        format="%.2f", key=f"marks-{key}",
    )  # fmt: skip
    chosen = int(np.abs(track.times - at).argmin())
    paths, motion = st.columns([3, 2], gap="large")
    raw, calibrated = typical_motion(track)
    with paths:
        alt = texts.LANDMARKS_ALT.format(clock=clock(float(track.times[chosen])))
        figure(paths_svg(track, chosen, alt), f"paths-{key}")
    with motion:
        figure(motion_svg(track, chosen, texts.MOTION_ALT.format(raw=raw, calibrated=calibrated)), f"motion-{key}")
        st.html(f'<p class="um-small">{texts.MOTION_SAID.format(raw=raw, calibrated=calibrated)}</p>')


@st.cache_data(max_entries=16, show_spinner=False)
def _track(content: bytes) -> LandmarkTrack:
    return unpack(content)


@st.fragment
def show_neighbours(analysis: str, face: FaceResult) -> None:
    """The reference faces nearest to the face as a detector sees it, and the map of all of them."""
    places = placed_faces(face)
    key = f"{analysis}-{face.track}"
    st.html(f'<p class="um-small">{texts.AMONG_HELP}</p>')
    names = sorted(places)
    first = max(names, key=lambda name: face.detectors[name].score or 0.0)
    name = st.segmented_control(
        texts.AMONG, names, default=first, required=True, key=f"among-{key}", label_visibility="collapsed"
    )
    gallery, placed = places[name]
    nearest = [(REFERENCES.get(one.kind, one.kind), one.distance) for one in placed.neighbours]
    on_map, near = st.columns([3, 2], gap="large")
    with on_map:
        told = [texts.AMONG_NEAR.format(kind=kind, distance=far) for kind, far in nearest]
        alt = texts.AMONG_ALT.format(nearest=", ".join(told))
        chart(embedding_figure(gallery, placed), key=f"place-{key}", alt=alt)
    with near:
        rows = [(str(number), kind, f"{far:.2f}") for number, (kind, far) in enumerate(nearest, 1)]
        st.html(f"<h4>{texts.NEIGHBOURS}</h4>" + table(texts.NEIGHBOURS_HEAD, rows))
        st.html(f'<p class="um-small">{texts.NEIGHBOURS_SAID}</p>')
