"""The page that takes files, follows their analyses and shows what came out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO

import streamlit as st

from detectors.result import AnalysisResult
from ui.cards import error_card, progress_card
from ui.client import DEFAULT_API, ApiError, Client
from ui.dashboard.result_view import show_result
from ui.samples import Sample, samples
from ui.words import FAILED, VERDICTS, printable

LEAD = (
    "Drop in photos or videos of people. Published detectors look at every face; you see what each of them says, "
    "where it looks, and how far the verdict can be trusted."
)

STEPS = """<div class="um-steps">
<div><b>Faces</b><p>Every face is found and followed through the video; each person is judged apart.</p></div>
<div><b>Detectors</b><p>Each looks at something else: textures, blending seams, how landmarks move.
Their scores are calibrated, so that they compare.</p></div>
<div><b>Verdict</b><p>The scores are weighed into one probability with its interval. Where the evidence does not
decide, the answer is that it does not.</p></div>
</div>"""


@dataclass
class Entry:
    """One input of this session: waiting for its answer until it has a result or an error."""

    name: str
    id: str = ""
    result: AnalysisResult | None = None
    error: ApiError | None = None

    @property
    def label(self) -> str:
        words = VERDICTS[self.result.verdict] if self.result else FAILED
        return f"{words.sign} {self.name}" if self.result or self.error else f"… {self.name}"


@st.cache_resource
def client(api: str) -> Client:
    """One connection pool for all sessions."""
    return Client(api)


def api() -> Client:
    """The client of the API that this dashboard was started for."""
    return client(os.environ.get("UNMASK_API", DEFAULT_API))


def show() -> None:
    st.title("Is this face real?")
    st.html(f'<p class="um-lead">{LEAD}</p>')
    entries: dict[str, Entry] = st.session_state.setdefault("entries", {})
    _from_link(entries)
    files = st.file_uploader("Images or videos", accept_multiple_files=True, label_visibility="collapsed", key="files")
    for file in files or []:
        if file.file_id not in entries:
            _submit(entries, file.file_id, file, printable(file.name))
    _samples(entries)
    if entries:
        _answers(entries)
    else:
        st.html(STEPS)


def _submit(entries: dict[str, Entry], key: str, media: BinaryIO, name: str) -> None:
    entry = entries[key] = Entry(name)
    st.session_state["chosen"] = key
    try:
        with st.spinner(f"Uploading {name}"):
            entry.id = api().submit(media, name)
    except ApiError as error:
        entry.error = error


def _from_link(entries: dict[str, Entry]) -> None:
    """`?analysis=ID` opens an analysis that the API already has, so that a result can be linked to."""
    linked = st.query_params.get("analysis", "")
    if not linked or any(entry.id == linked for entry in entries.values()):
        return
    entry = entries[linked] = Entry(linked, linked)
    st.session_state["chosen"] = linked
    try:
        entry.name = str(api().status(linked).get("name", linked))
    except ApiError as error:
        entry.error = error


def _samples(entries: dict[str, Entry]) -> None:
    found = samples()
    if not found:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.html('<p class="um-small">No file at hand? Try</p>', width="content")
        for sample in found:
            if st.button(sample.title, key=f"sample-{sample.path.name}", help=sample.note):
                _start_sample(entries, sample)


def _start_sample(entries: dict[str, Entry], sample: Sample) -> None:
    key = f"sample-{sample.path.name}"
    if entries.get(key) is None or entries[key].error is not None:
        with sample.path.open("rb") as media:
            _submit(entries, key, media, sample.path.name)
    st.session_state["chosen"] = key


def _answers(entries: dict[str, Entry]) -> None:
    st.space("small")
    keys = list(entries)[::-1]
    if st.session_state.get("chosen") not in entries:
        st.session_state["chosen"] = keys[0]
    place = st.container()
    for entry in entries.values():
        if entry.id and entry.result is None and entry.error is None:
            _follow(entry, place.empty())
    if len(keys) > 1:
        with place:
            st.pills("Answers", keys, format_func=lambda key: entries[key].label, key="chosen", required=True,
                     label_visibility="collapsed")  # fmt: skip
    entry = entries[st.session_state["chosen"]]
    if entry.error is not None:
        st.html(error_card(entry.name, entry.error.reason, entry.error.hint))
    elif entry.result is not None:
        show_result(api(), entry.id, entry.result)


def _follow(entry: Entry, place: st.delta_generator.DeltaGenerator) -> None:
    """Live progress until the answer is there. The analysis goes on in the API if the page is left or reloaded."""
    try:
        place.html(progress_card(entry.name, "queued", 0.0))
        for progress in api().watch(entry.id):
            place.html(progress_card(entry.name, progress.stage, progress.share))
        entry.result = api().result(entry.id)
    except ApiError as error:
        entry.error = error
    place.empty()
