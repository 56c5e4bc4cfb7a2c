"""Analyses under way: threads follow the API's events, and the page, usable meanwhile, looks at what they heard."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

import streamlit as st

from detectors.result import AnalysisResult
from ui.cards import progress_card
from ui.client import ApiError, Client, Progress
from ui.dashboard import texts
from ui.dashboard.session import api
from ui.words import FAILED, VERDICTS

UNDER_WAY = ("queued", "running")
"""Statuses of the API after which more is to come."""
LOOK_S = 0.4
"""Between two looks of the page at what the threads heard."""


@dataclass
class Entry:
    """One input of this session: waiting for its answer until it has a result or an error."""

    name: str
    id: str = ""
    result: AnalysisResult | None = None
    error: ApiError | None = None
    progress: Progress = field(default_factory=lambda: Progress("queued", "queued", 0.0))
    followed: bool = False

    @property
    def waits(self) -> bool:
        return bool(self.id) and self.result is None and self.error is None

    @property
    def label(self) -> str:
        words = VERDICTS[self.result.verdict] if self.result else FAILED
        return f"{words.sign} {self.name}" if self.result or self.error else f"… {self.name}"

    def follow(self, client: Client) -> None:
        """Listen in a thread until the analysis has ended; a second call does nothing. The analysis goes on in the API
        whether or not anybody listens."""
        if not self.followed:
            self.followed = True
            threading.Thread(target=self._listen, args=(client,), name=f"follow-{self.id}", daemon=True).start()

    def _listen(self, client: Client) -> None:
        try:
            for progress in client.watch(self.id):
                self.progress = progress
            if self.progress.status == "cancelled":
                raise ApiError("cancelled", texts.CANCELLED, texts.CANCELLED_HINT)
            self.result = client.result(self.id, self.progress)
            self.progress = replace(self.progress, answer=None)  # a long video's is large, and is in the result
        except ApiError as error:
            self.error = error


def show_progress(entries: dict[str, Entry]) -> None:
    """A card for each that is under way, live; nothing where none is."""
    waiting = {key: entry for key, entry in entries.items() if entry.waits}
    for entry in waiting.values():
        entry.follow(api())
    if waiting:
        _live(waiting)


@st.fragment(run_every=LOOK_S)
def _live(waiting: dict[str, Entry]) -> None:
    """A fragment: only these cards are drawn anew, and the whole page once when one has ended."""
    if not all(entry.waits for entry in waiting.values()):
        st.rerun()
    for key, entry in waiting.items():
        card, stop = st.columns([8, 1], gap="small", vertical_alignment="center")
        card.html(
            progress_card(entry.name, entry.progress.stage, entry.progress.share, entry.progress.detectors),
        )
        stop.button(
            texts.CANCEL, key=f"cancel-{key}", help=texts.CANCEL_OF.format(name=entry.name), on_click=_cancel,
            args=(entry,),
        )  # fmt: skip


def _cancel(entry: Entry) -> None:
    try:
        api().delete(entry.id)
    except ApiError as error:
        entry.error = error
