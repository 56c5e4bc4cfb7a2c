"""The people of a result: one at a time, on the player's time axis and in the evidence of each detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape

import streamlit as st

from detectors.result import AnalysisResult, FaceResult
from ui.client import ApiError, Client
from ui.dashboard import files, texts
from ui.dashboard.browser import breathe, figure, seek
from ui.dashboard.evidence import show_evidence
from ui.dashboard.session import token
from ui.timeline import Clicked, points_of, scores_over_time
from ui.words import SPAN, clock, codec_words, container_words, probability, quality_words

PLAYER = "player"

PLAYED = {("mp4", "h264"), ("mp4", "av1"), ("mp4", "vp9"), ("webm", "vp8"), ("webm", "vp9"), ("webm", "av1")}
"""Containers and codecs that the browsers of today play."""
ALIKE = {"mov": "mp4", "mp4": "mp4", "m4v": "mp4", "m4a": "mp4", "3gp": "mp4", "webm": "webm", "matroska": "webm"}
"""FFmpeg's names of containers; QuickTime and MP4 have one form, so have Matroska and WebM."""


@dataclass(frozen=True)
class Moment:
    """Where the reader wants the player: seconds, what is said then, and which wish of the reader it is."""

    time: float
    said: str
    number: int


def show_people(client: Client, analysis: str, result: AnalysisResult) -> FaceResult:
    """The most suspicious person first; with several, the reader chooses. The one who is shown."""
    st.subheader(texts.THE_FACE if len(result.faces) == 1 else texts.THE_PEOPLE)
    ordered = sorted(result.faces, key=lambda face: -(face.fused or -1.0))
    face = ordered[0]
    if len(ordered) > 1:
        st.html(f'<p class="um-small">{texts.PEOPLE_HINT}</p>')
        titles = {one.track: texts.PERSON.format(track=one.track, score=probability(one.fused)) for one in ordered}
        track = st.segmented_control(
            texts.PERSON_LABEL, list(titles), default=face.track, required=True, format_func=titles.__getitem__,
            key=f"person-{analysis}", label_visibility="collapsed",
        )  # fmt: skip
        face = next(one for one in ordered if one.track == track)
    kinds = files.map_kinds(client, token())
    _over_time(client, analysis, result, face)
    breathe(f"{analysis}-evidence")
    show_evidence(client, analysis, result, face, kinds)
    return face


@st.fragment
def _over_time(client: Client, analysis: str, result: AnalysisResult, face: FaceResult) -> None:
    """The media beside the scores over time; a point of these moves the player. A fragment: the rest stays as it is."""
    timeline = scores_over_time(result, face, _timeline_alt(face))
    left, right = st.columns([2, 3], gap="medium") if timeline else (st.container(), st.container())
    key = f"{analysis}-{face.track}"
    at: Moment | None = st.session_state.get(f"at-{key}")
    with right:
        if timeline:
            figure(timeline, f"time-{key}", partial(_clicked, key, points_of(face)))
            options = moments(face)
            st.selectbox(
                texts.MOMENT_PICK, list(options), index=None, placeholder=texts.MOMENT_PICK, key=f"pick-{key}",
                format_func=options.__getitem__, on_change=_picked, args=(key, options), label_visibility="collapsed",
            )  # fmt: skip
            st.html(f'<p class="um-small" role="status">{escape(at.said if at else texts.TIMELINE_HINT)}</p>')
        video = result.media.kind == "video"
        span = texts.SPAN.format(first=clock(face.times[0]), last=clock(face.times[1])) if video else ""
        frames = texts.FRAMES[face.frames != 1].format(count=face.frames)
        quality = f"; {', '.join(quality_words(face))}" if face.quality else ""
        if video or quality:
            st.html(f'<p class="um-small">{span}{frames}{escape(quality)}</p>')
    with left:
        _picture(client, analysis, result, face)
    if at:
        seek(PLAYER, at.time, f"{key}-{at.number}")


def _clicked(key: str, points: Sequence[Clicked], number: int) -> None:
    if 0 <= number < len(points):
        _go(key, points[number].at.time, moment_words(points[number]))


def _picked(key: str, options: Mapping[tuple[float, int], str]) -> None:
    chosen = st.session_state[f"pick-{key}"]
    if chosen is not None:
        _go(key, chosen[0], options[chosen])


def _go(key: str, time: float, said: str) -> None:
    before: Moment | None = st.session_state.get(f"at-{key}")
    st.session_state[f"at-{key}"] = Moment(time, said, before.number + 1 if before else 1)


def moments(face: FaceResult) -> dict[tuple[float, int], str]:
    """Every (time, frame) of which detectors have a score, with these in words: the timeline for the keyboard."""
    scores: dict[tuple[float, int], list[str]] = {}
    for name, one in sorted(face.detectors.items()):
        if len(one.frame_scores) > 1:
            for at in one.frame_scores:
                scores.setdefault((at.time, at.frame), []).append(f"{name} {probability(at.score)}")
    return {
        (time, frame): texts.MOMENT_OPTION.format(clock=clock(time), frame=frame, scores=", ".join(said))
        for (time, frame), said in sorted(scores.items())
    }


def moment_words(point: Clicked) -> str:
    """What is said at a point that was clicked."""
    score = probability(point.at.score)
    return texts.MOMENT.format(clock=clock(point.at.time), frame=point.at.frame, name=point.detector, score=score)


def _timeline_alt(face: FaceResult) -> str:
    parts = []
    for name, one in sorted(face.detectors.items()):
        scores = [moment.score for moment in one.frame_scores]
        if len(scores) > 1:
            parts.append(f"{name} {SPAN.format(low=probability(min(scores)), high=probability(max(scores)))}")
    seconds = face.times[1] - face.times[0]
    return texts.TIMELINE_ALT.format(track=face.track, seconds=seconds, scores="; ".join(parts))


def _picture(client: Client, analysis: str, result: AnalysisResult, face: FaceResult) -> None:
    """The player of a video; of a picture the picture with its boxes; of a deleted one the face that is left."""
    if result.media.kind == "landmarks":
        return
    try:
        if result.media.kind == "image":
            st.image(files.annotated(client, token(), analysis, result), width=480, alt=result.media.name)
            return
        with st.container(key=PLAYER):
            _player(client, analysis, result)
    except ApiError as error:
        st.html(f'<p class="um-small">{escape(texts.NOT_SHOWN.format(reason=error.reason))}</p>')
        if face.thumbnail and (content := files.artifact(client, analysis, face.thumbnail)):
            st.image(content, width=160, alt=texts.PERSON_ALT.format(track=face.track))


def _player(client: Client, analysis: str, result: AnalysisResult) -> None:
    place = st.empty()
    drawn = st.toggle(texts.DRAWN, key=f"drawn-in-{analysis}")
    if drawn:
        with place, st.spinner(texts.DRAWING):
            content = files.annotated(client, token(), analysis, result)
        place.video(content, muted=True, alt=texts.PLAYER_ALT)
    elif playable(result):
        place.video(files.media(client, analysis), alt=texts.PLAYER_ALT)
    else:
        told = texts.NOT_PLAYABLE.format(
            codec=codec_words(result.media.codec), container=container_words(result.media.container)
        )
        place.html(f'<p class="um-small">{escape(told)}</p>')


def playable(result: AnalysisResult) -> bool:
    """Whether a browser plays the file as it is."""
    containers = {ALIKE.get(name) for name in result.media.container.split(",")}
    return any((container, result.media.codec) in PLAYED for container in containers)
