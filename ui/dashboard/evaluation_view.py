"""One evaluation on the page: how far it is, or its figures, what the files were called, and its report."""

from __future__ import annotations

import shlex
from base64 import b64encode
from html import escape
from typing import Any

import streamlit as st

from ui import evaluation_words as texts
from ui.dashboard import operator
from ui.evaluations import Evaluation, Evaluations
from ui.operator_cards import headline, said, state, trouble
from ui.operator_words import COMMAND, FILES, OUTCOMES, STOP, count, when
from ui.words import FAKE, REAL, probability

LOOK_S = 1.5
REPORT_PX = 900


def show_evaluation(kept: Evaluations, one: Evaluation) -> None:
    """All that is known of it."""
    st.subheader(operator.plain(one.asked.name))
    st.html(f'<p class="um-small">{escape(_asked(one))}</p>')
    now = one.state()
    if now == "running":
        _follow(one)
        return
    st.html(state(texts.STATES[now]))
    if now == "failed":
        _failed(kept, one)
    else:
        _figures(one, one.result or {})
    _actions(kept, one, now)


def _asked(one: Evaluation) -> str:
    """When, by whom, on what, and how many files were left out."""
    at = when(one.asked.created)
    parts = [texts.ASKED_BY.format(when=at, name=one.asked.by) if one.asked.by else at]
    parts.append(one.asked.data or texts.UPLOADED_DATA)
    if one.asked.left_out:
        parts.append(texts.LEFT_OUT.format(files=count(one.asked.left_out, *FILES)))
    return " · ".join(parts)


@st.fragment(run_every=LOOK_S)
def _follow(one: Evaluation) -> None:
    """Drawn anew by itself while the evaluation runs; at its end the whole page is."""
    if not one.running:
        st.rerun()
    progress = one.progress
    words = texts.DOING.get(progress.what, f"{progress.what[:1].upper()}{progress.what[1:]}")
    if progress.total:
        words = texts.DOING_OF.format(what=words, done=progress.done, total=progress.total)
    st.progress(progress.done / progress.total if progress.total else 0.0, text=words)
    asked = (one.folder / "stopped").exists()
    label = texts.STOP_AT_ONCE if asked else STOP
    hint = texts.STOP_AT_ONCE_HELP if asked else texts.STOP_HELP
    if st.button(label, icon=":material/stop_circle:", help=hint, key=f"stop-{one.id}"):
        operator.act(one.stop)


def _failed(kept: Evaluations, one: Evaluation) -> None:
    said_last = one.said()
    last = said_last.splitlines()[-1] if said_last else texts.FAILED_SILENT
    reason, _, hint = last.removeprefix("unmask: ").partition("; ")
    st.html(trouble(texts.NOT_EVALUATED, reason, hint))
    if said_last.count("\n") > 0:
        with st.expander(texts.SAID):
            st.html(f'<pre class="um-log" tabindex="0">{escape(said_last)}</pre>')
    if "--allow-fitted" in hint and st.button(texts.ALLOW_FITTED, icon=":material/play_arrow:"):
        operator.act(lambda: kept.allow_fitted(one))
        if one.running:
            st.rerun()


def _figures(one: Evaluation, found: dict[str, Any]) -> None:
    covered = found["coverage"]["value"]
    share = texts.COVERED_NONE if covered is None else f"{covered:.0%}"
    files = count(found["items"], *FILES)
    lead = texts.COVERED.format(files=files, share=share, threshold=found["threshold"])
    st.html(f'<p class="um-lead">{lead}</p>')
    notes = _notes(found)
    if notes:
        st.html(f'<ul class="um-notices">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>')
    st.html(headline(found))
    st.html(f'<p class="um-small">{texts.CALLED}</p>')
    st.html(said(found))
    report, data = one.report(), (one.folder / "result.json").read_bytes()
    stem = "".join(char if char.isalnum() else "-" for char in one.asked.name)
    with st.container(horizontal=True):
        if report:
            st.download_button(
                texts.REPORT, report, f"{stem}.html", "text/html", on_click="ignore", icon=":material/download:"
            )
        st.download_button(
            texts.REPORT_JSON, data, f"{stem}.json", "application/json", on_click="ignore", icon=":material/download:"
        )
    if report and st.toggle(texts.REPORT_HERE, key=f"report-{one.id}"):
        # As a data: address it has an origin of its own: nothing in it can reach the dashboard.
        page = b64encode(report.encode()).decode()
        st.iframe(f"data:text/html;charset=utf-8;base64,{page}", height=REPORT_PX, alt=texts.REPORT_ALT)
    with st.expander(texts.EVERY_FILE):
        _files(one, found)


def _notes(found: dict[str, Any]) -> list[str]:
    notes = []
    if found["partial"]:
        notes.append(texts.STOPPED_EARLY.format(done=found["items"], planned=found["planned"]))
    if found["fitted_on_these"]:
        notes.append(texts.FITTED_ON.format(count=found["fitted_on_these"]))
    labels = {row["label"] for row in found["scores"]}
    if len(labels) == 1:
        notes.append(texts.ONE_LABEL)
    return notes


def _files(one: Evaluation, found: dict[str, Any]) -> None:
    """The worst mistakes first; files without a score last."""
    names, folder = one.names, one.data if one.data.is_dir() else one.data.parent
    rows = []
    for row in found["scores"]:
        path = str(row["path"])
        short = names.get(path.rsplit("/", 1)[-1], path.removeprefix(f"{folder}/"))
        wrong = -1.0 if row["score"] is None else abs(row["score"] - row["label"])
        label = FAKE if row["label"] else REAL
        score = None if row["score"] is None else float(probability(row["score"]))  # shown as never certain
        rows.append((wrong, short, label, score, OUTCOMES.get(row["verdict"], row["verdict"]), row["reason"]))
    rows.sort(key=lambda row: -row[0])
    st.dataframe(
        [dict(zip(texts.EVERY_FILE_HEAD, row[1:], strict=True)) for row in rows], hide_index=True,
        column_config={texts.EVERY_FILE_HEAD[2]: st.column_config.NumberColumn(format="%.2f")},
        alt=texts.EVERY_FILE_ALT,
    )  # fmt: skip


def _actions(kept: Evaluations, one: Evaluation, now: str) -> None:
    with st.expander(COMMAND):
        st.code(shlex.join(["unmask", *one.command]), language=None, wrap_lines=True)
    with st.container(horizontal=True):
        if st.button(texts.AGAIN[now], icon=":material/refresh:", help=texts.AGAIN_HELP):
            operator.act(lambda: kept.run(one))
            if one.running:
                st.rerun()
        with st.popover(texts.DELETE, icon=":material/delete:"):
            st.html(f'<p class="um-small">{texts.DELETE_HINT}</p>')
            if st.button(texts.DELETE_NOW, type="primary"):
                operator.act(lambda: kept.delete(one))
                if kept.get(one.id) is None:
                    st.query_params.clear()
                    st.rerun()
