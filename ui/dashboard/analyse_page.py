"""The page that takes files, follows their analyses and shows what came out."""

from __future__ import annotations

from html import escape
from typing import BinaryIO

import streamlit as st

from ui.cards import error_card
from ui.client import ApiError, result_of
from ui.dashboard import texts
from ui.dashboard.browser import take_pasted_files
from ui.dashboard.following import UNDER_WAY, Entry, show_progress
from ui.dashboard.result_view import show_result
from ui.dashboard.session import api
from ui.samples import Sample, samples
from ui.words import printable


def show() -> None:
    st.title(texts.TITLE)
    st.html(f'<p class="um-lead">{texts.LEAD}</p>')
    entries: dict[str, Entry] = st.session_state.setdefault("entries", {})
    _from_link(entries)
    files = st.file_uploader(texts.UPLOAD, accept_multiple_files=True, label_visibility="collapsed", key="files")
    take_pasted_files()
    st.html(f'<p class="um-small">{texts.UPLOAD_HINT}</p>')
    for file in files or []:
        if file.file_id not in entries:
            _submit(entries, file.file_id, file, printable(file.name))
    _other_ways(entries)
    if entries:
        _answers(entries)
    else:
        steps = "".join(f"<div><b>{escape(name)}</b><p>{escape(what)}</p></div>" for name, what in texts.STEPS)
        st.html(f'<div class="um-steps">{steps}</div>')


def _submit(entries: dict[str, Entry], key: str, media: BinaryIO, name: str) -> None:
    entry = entries[key] = Entry(name)
    st.session_state["chosen"] = key
    try:
        with st.spinner(texts.UPLOADING.format(name=name)):
            entry.id = api().submit(media, name)
    except ApiError as error:
        entry.error = error


def _from_link(entries: dict[str, Entry]) -> None:
    """`?analysis=ID` opens an analysis that the API already has, so that a result can be linked to; so does History."""
    opened = st.session_state.pop("open", "")
    linked = opened or st.query_params.get("analysis", "")
    there = next((key for key, entry in entries.items() if entry.id == linked), None)
    if there is not None and opened:
        st.session_state["chosen"] = there
    if not linked or there is not None:
        return
    entry = entries[linked] = Entry(linked, linked)
    st.session_state["chosen"] = linked
    try:
        found = api().status(linked)
        entry.name = str(found.get("name", linked))
        if found.get("status") not in UNDER_WAY:
            entry.result = result_of(found, linked)
    except ApiError as error:
        entry.error = error


def _other_ways(entries: dict[str, Entry]) -> None:
    """Samples and the camera, which is asked for only when it is wanted."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        found = samples()
        if found:
            st.html(f'<p class="um-small">{texts.TRY}</p>', width="content")
        for sample in found:
            if st.button(sample.title, key=f"sample-{sample.path.name}", help=sample.note):
                _start_sample(entries, sample)
        on = bool(st.session_state.get("camera-on"))
        words = texts.CAMERA_CLOSE if on else texts.CAMERA
        st.button(words, key="camera-switch", icon=":material/photo_camera:", on_click=_switch_camera)
    if not on:
        return
    shot = st.camera_input(texts.CAMERA_LABEL, label_visibility="collapsed", key="camera", width=480)
    if shot is not None and (key := f"camera-{shot.file_id}") not in entries:
        number = 1 + sum(key.startswith("camera-") for key in entries)
        _submit(entries, key, shot, texts.SNAPSHOT.format(number=number))


def _switch_camera() -> None:
    st.session_state["camera-on"] = not st.session_state.get("camera-on")


def _start_sample(entries: dict[str, Entry], sample: Sample) -> None:
    key = f"sample-{sample.path.name}"
    if entries.get(key) is None or entries[key].error is not None:
        with sample.path.open("rb") as media:
            _submit(entries, key, media, sample.path.name)
    st.session_state["chosen"] = key


def _answers(entries: dict[str, Entry]) -> None:
    st.space("small")
    show_progress(entries)
    keys = list(entries)[::-1]
    if st.session_state.get("chosen") not in entries:
        st.session_state["chosen"] = keys[0]
    if len(keys) > 1:
        st.pills(texts.ANSWERS, keys, format_func=lambda key: entries[key].label, key="chosen", required=True,
                 label_visibility="collapsed")  # fmt: skip
    entry = entries[st.session_state["chosen"]]
    if entry.error is not None:
        st.html(error_card(entry.name, entry.error.reason, entry.error.hint))
    elif entry.result is not None:
        show_result(api(), entry.id, entry.result)
