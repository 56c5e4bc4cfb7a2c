"""Earlier analyses of whoever is signed in: found, opened again, compared, tagged, noted on, deleted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from html import escape
from typing import Any

import streamlit as st

from ui.cards import error_card
from ui.client import ApiError
from ui.dashboard import analyse_page, compare_page, texts
from ui.dashboard.session import api
from ui.words import VERDICTS, percent

PAGE = 20


def show() -> None:
    st.title(texts.HISTORY)
    query, tag, outcome = _question()
    if (query, tag, outcome) != st.session_state.get("asked"):
        st.session_state["asked"] = (query, tag, outcome)
        st.session_state["history-page"] = 0
    page = int(st.session_state.setdefault("history-page", 0))
    try:
        found, total = api().page(query, tag, PAGE, page * PAGE, outcome)
        if not found and page > 0:  # its last row was deleted
            page = st.session_state["history-page"] = max(total - 1, 0) // PAGE
            found, total = api().page(query, tag, PAGE, page * PAGE, outcome)
    except ApiError as error:
        st.html(error_card(texts.HISTORY, error.reason, error.hint))
        return
    if not found:
        asked = query or tag or outcome
        st.html(f'<p class="um-lead">{texts.HISTORY_NO_MATCH if asked else texts.HISTORY_EMPTY}</p>')
    marked = [job["id"] for job in found if st.session_state.get(f"mark-{job['id']}")]
    many = len(marked) > compare_page.MOST
    words = texts.HISTORY_TOO_MANY if many else texts.HISTORY_COMPARE
    told = words.format(count=len(marked), most=compare_page.MOST)
    if len(marked) > 1 and st.button(told, type="primary", icon=":material/compare:", disabled=many):
        st.session_state["compare-these"] = marked
        st.switch_page(st.Page(compare_page.show, title=texts.COMPARE, url_path="compare"))
    for job in found:
        _row(job)
    _turn(page, total)


def _question() -> tuple[str, str, str]:
    words, tagged, came = st.columns([3, 2, 2], gap="medium")
    query = words.text_input(texts.HISTORY_QUERY, key="history-query", icon=":material/search:")
    tag = tagged.text_input(texts.HISTORY_TAG, key="history-tag", icon=":material/label:")
    titles = {"": texts.HISTORY_ALL} | {name: words.title for name, words in VERDICTS.items()} | texts.HISTORY_STATUS
    outcome = came.selectbox(texts.HISTORY_OUTCOME, list(titles), format_func=titles.__getitem__, key="history-outcome")
    return query.strip(), tag.strip(), outcome


def _row(job: dict[str, Any]) -> None:
    key = job["id"]
    with st.container(border=True):
        what, change, act = st.columns([4, 3, 4], gap="medium", vertical_alignment="center")
        when = datetime.fromtimestamp(job["created"]).strftime("%Y-%m-%d %H:%M")
        with what, st.container(gap=None):
            if st.button(_label(job), key=f"open-{key}", type="tertiary", help=texts.HISTORY_OPEN):
                st.session_state["open"] = key
                st.switch_page(st.Page(analyse_page.show, title=texts.ANALYSE, url_path="analyse", default=True))
            why = f" · {job['error']['reason']}" if job.get("error") else ""
            noted = f" · {job['notes']}" if job["notes"] else ""
            st.html(f'<p class="um-small">{when}{escape(why)}{escape(noted)}</p>')
        with change:
            st.text_input(
                texts.HISTORY_TAGS, ", ".join(job["tags"]), key=f"tags-{key}", placeholder=texts.HISTORY_TAGS_HINT,
                label_visibility="collapsed", on_change=_tag, args=(key,),
            )  # fmt: skip
        with act, st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="right", gap="small"):
            if job["status"] == "done":
                st.checkbox(texts.HISTORY_MARK, key=f"mark-{key}")
            with st.popover(texts.HISTORY_NOTES):
                st.text_area(
                    texts.HISTORY_NOTES, job["notes"], key=f"notes-{key}", max_chars=4000, on_change=_note,
                    args=(key,), help=texts.HISTORY_NOTES_HINT,
                )  # fmt: skip
            with st.popover(texts.HISTORY_DELETE):
                st.html(f'<p class="um-small">{texts.HISTORY_DELETE_HINT}</p>')
                if st.button(texts.HISTORY_DELETE_NOW, key=f"delete-{key}", type="primary"):
                    _act(lambda: api().delete(key))
                    st.rerun()


def _tag(analysis: str) -> None:
    """Before the page is drawn again: by then another question may have left this row out."""
    given = str(st.session_state[f"tags-{analysis}"])
    _act(lambda: api().set_tags(analysis, [one.strip() for one in given.split(",") if one.strip()]))


def _note(analysis: str) -> None:
    _act(lambda: api().set_notes(analysis, str(st.session_state[f"notes-{analysis}"]).strip()))


def _label(job: dict[str, Any]) -> str:
    verdict = VERDICTS.get(job["verdict"]) if job["verdict"] else None
    said = f"{verdict.sign} {verdict.title}" if verdict else texts.HISTORY_STATUS.get(job["status"], job["status"])
    score = f", {texts.HISTORY_SCORE.format(percent=percent(job['score']))}" if job["score"] is not None else ""
    name = job["name"] if len(job["name"]) <= 60 else f"{job['name'][:40]}…{job['name'][-16:]}"
    return f"**{_plain(name)}** — {said}{score}"


def _plain(text: str) -> str:
    """A name as itself: what Markdown and Streamlit would read in it is told apart."""
    return "".join(f"\\{char}" if char in "\\`*_{}[]()#+-.!|$:<>~" else char for char in text)


def _act(do: Callable[[], None]) -> None:
    try:
        do()
    except ApiError as error:
        st.error(f"{error.reason}. {error.hint}")


def _turn(page: int, total: int) -> None:
    if total <= PAGE:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(texts.NEWER, disabled=page == 0):
            st.session_state["history-page"] = page - 1
            st.rerun()
        if st.button(texts.OLDER, disabled=(page + 1) * PAGE >= total):
            st.session_state["history-page"] = page + 1
            st.rerun()
        told = texts.RANGE.format(first=page * PAGE + 1, last=min((page + 1) * PAGE, total), total=total)
        st.html(f'<p class="um-small">{told}</p>')
