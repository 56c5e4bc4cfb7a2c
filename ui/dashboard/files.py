"""What a result names and the API keeps, fetched once; and what is made of it to take away.

Everything is kept for `whose` alone, a token: nobody sees from a cache what the API would not give them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import streamlit as st

from detectors.result import Analysis, AnalysisResult
from preprocessing.errors import MediaError
from preprocessing.settings import Settings
from ui.annotate import annotate
from ui.client import ApiError, Client, result_of
from ui.dashboard.session import token
from ui.report import finished_report, picture_names
from ui.words import deciding_face

PLAYED_BYTES = 256 << 20
"""Larger media is not held in memory for a player; its scores and pictures are shown all the same."""


def artifact(client: Client, analysis: str, name: str) -> bytes | None:
    """None where it cannot be had, as after a deletion: the scores are still worth showing. That is not remembered."""
    try:
        return _artifact(client, token(), analysis, name)
    except ApiError:
        return None


@st.cache_data(max_entries=512, show_spinner=False)
def _artifact(_client: Client, whose: str, analysis: str, name: str) -> bytes:
    return _client.artifact(analysis, name)


def media(client: Client, analysis: str) -> bytes:
    """The bytes that were analysed. Raises ApiError where they are gone, or more than PLAYED_BYTES."""
    return _media(client, token(), analysis)


@st.cache_resource(max_entries=4, ttl=900, show_spinner=False)
def _media(_client: Client, whose: str, analysis: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="unmask-") as folder:
        file = Path(folder) / "media"
        _client.media(analysis, file, PLAYED_BYTES)
        return file.read_bytes()


def annotated(client: Client, whose: str, analysis: str, result: AnalysisResult) -> bytes:
    """The media with boxes, scores and heatmaps drawn in: JPEG of a picture, MP4 (H.264, without sound) of a video.

    `whose`: the token, which a download's thread cannot ask the session for. Raises ApiError, also where the media
    cannot be read any more.
    """
    return _annotated(client, whose, analysis, result)


@st.cache_resource(max_entries=4, ttl=900, show_spinner=False)
def _annotated(_client: Client, whose: str, analysis: str, _result: AnalysisResult) -> bytes:
    face = deciding_face(_result)
    maps = [heatmap for score in (face.detectors.values() if face else ()) for heatmap in score.heatmaps]
    wanted = [name for heatmap in maps for name in (heatmap.crop, heatmap.map)]
    limits = Settings.model_validate(_client.status(analysis)["settings"]).limits
    with tempfile.TemporaryDirectory(prefix="unmask-") as folder:
        file = Path(folder) / "media"
        _client.media(analysis, file)
        given = Analysis(_result, {name: _client.artifact(analysis, name) for name in wanted})
        try:
            return annotate(file, given, Path(folder) / "drawn", limits).read_bytes()
        except MediaError as error:
            raise ApiError(error.code, error.reason, error.hint) from None


def document(result: AnalysisResult) -> str:
    """The result as JSON, as the API and `unmask scan --json` give it."""
    return result.model_dump_json(indent=1)


def report(client: Client, analysis: str, form: str = "html") -> bytes:
    """What `unmask scan --report` writes, as "html", "pdf" or "json", of an analysis of the API; pictures that are not
    there any more are left out. Raises ApiError."""
    found = client.status(analysis)
    result = result_of(found, analysis)
    pictures = {}
    for name in picture_names(result):
        try:
            pictures[name] = client.artifact(analysis, name)
        except ApiError as error:
            if error.code != "not_found":
                raise
    return finished_report(result, pictures, found["settings"], _maps_of(client)).render(form)


def map_kinds(client: Client, whose: str) -> dict[str, str]:
    """By detector: which map it draws, native, grad-cam or landmarks; empty where the API cannot be asked."""
    try:
        return _map_kinds(client, whose)
    except ApiError:
        return {}


@st.cache_data(ttl=600, show_spinner=False)
def _map_kinds(_client: Client, whose: str) -> dict[str, str]:
    return _maps_of(_client)


def _maps_of(client: Client) -> dict[str, str]:
    return {str(card["name"]): str(card["map"]) for card in client.detectors() if "map" in card}
