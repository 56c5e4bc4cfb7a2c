"""One evaluation on the page: how far it is, or its figures, what the files were called, and its report."""

from __future__ import annotations

import shlex
from base64 import b64encode
from html import escape
from typing import Any

import streamlit as st

from ui.dashboard import operator
from ui.evaluations import Evaluation, Evaluations
from ui.operator_cards import headline, said, state, trouble
from ui.operator_words import DOING, EVALUATION, OUTCOMES, count, when
from ui.words import probability

LOOK_S = 1.5
REPORT_PX = 900


def show_evaluation(kept: Evaluations, one: Evaluation) -> None:
    """All that is known of it."""
    st.subheader(operator.plain(one.asked.name))
    by = f" by {one.asked.by}" if one.asked.by else ""
    what = one.asked.data or "uploaded"
    left = f" · {count(one.asked.left_out, 'file')} left out: no media" if one.asked.left_out else ""
    st.html(f'<p class="um-small">{when(one.asked.created)}{escape(by)} · {escape(what)}{left}</p>')
    now = one.state()
    if now == "running":
        _follow(one)
        return
    st.html(state(EVALUATION[now]))
    if now == "failed":
        _failed(kept, one)
    else:
        _figures(one, one.result or {})
    _actions(kept, one, now)


@st.fragment(run_every=LOOK_S)
def _follow(one: Evaluation) -> None:
    """Drawn anew by itself while the evaluation runs; at its end the whole page is."""
    if not one.running:
        st.rerun()
    progress = one.progress
    words = DOING.get(progress.what, f"{progress.what[:1].upper()}{progress.what[1:]}")
    done = f", {progress.done} of {progress.total}" if progress.total else ""
    st.progress(progress.done / progress.total if progress.total else 0.0, text=f"{words}{done}")
    asked = (one.folder / "stopped").exists()
    label = "Stop at once" if asked else "Stop"
    hint = "What was measured is kept; the figures are not." if asked else "The figures are of what is done by then."
    if st.button(label, icon=":material/stop_circle:", help=hint, key=f"stop-{one.id}"):
        operator.act(one.stop)


def _failed(kept: Evaluations, one: Evaluation) -> None:
    said_last = one.said()
    last = said_last.splitlines()[-1] if said_last else "it ended without a word, or was ended from outside"
    reason, _, hint = last.removeprefix("unmask: ").partition("; ")
    st.html(trouble("Not evaluated", reason, hint))
    if said_last.count("\n") > 0:
        with st.expander("What the command said"):
            st.html(f'<pre class="um-log" tabindex="0">{escape(said_last)}</pre>')
    if "--allow-fitted" in hint and st.button("Measure them all the same", icon=":material/play_arrow:"):
        operator.act(lambda: kept.allow_fitted(one))
        if one.running:
            st.rerun()


def _figures(one: Evaluation, found: dict[str, Any]) -> None:
    covered = found["coverage"]["value"]
    share = "none" if covered is None else f"{covered:.0%}"
    st.html(
        f'<p class="um-lead">{count(found["items"], "file")}, {share} of them with a score. '
        f"Threshold {found['threshold']:.2f}, of detectors by themselves 0.50.</p>"
    )
    notes = _notes(found)
    if notes:
        st.html(f'<ul class="um-notices">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>')
    st.html(headline(found))
    st.html('<p class="um-small">What the files were called</p>')
    st.html(said(found))
    report, data = one.report(), (one.folder / "result.json").read_bytes()
    stem = "".join(char if char.isalnum() else "-" for char in one.asked.name)
    with st.container(horizontal=True):
        if report:
            st.download_button(
                "Report (HTML)", report, f"{stem}.html", "text/html", on_click="ignore", icon=":material/download:"
            )
        st.download_button(
            "Figures (JSON)", data, f"{stem}.json", "application/json", on_click="ignore", icon=":material/download:"
        )
    if report and st.toggle("Show the report here", key=f"report-{one.id}"):
        # As a data: address it has an origin of its own: nothing in it can reach the dashboard.
        page = b64encode(report.encode()).decode()
        st.iframe(f"data:text/html;charset=utf-8;base64,{page}", height=REPORT_PX, alt="The evaluation's report")
    with st.expander("Every file"):
        _files(one, found)


def _notes(found: dict[str, Any]) -> list[str]:
    notes = []
    if found["partial"]:
        notes.append(f"Stopped early: {found['items']} of {found['planned']} files were analysed.")
    if found["fitted_on_these"]:
        many = f"{found['fitted_on_these']:,} of these files"
        notes.append(f"The calibration or the fusion was fitted on {many}: the figures flatter.")
    labels = {row["label"] for row in found["scores"]}
    if len(labels) == 1:
        notes.append("All files have the same label: figures that compare real with fake are not defined.")
    return notes


def _files(one: Evaluation, found: dict[str, Any]) -> None:
    """The worst mistakes first; files without a score last."""
    names, folder = one.names, one.data if one.data.is_dir() else one.data.parent
    rows = []
    for row in found["scores"]:
        path = str(row["path"])
        short = names.get(path.rsplit("/", 1)[-1], path.removeprefix(f"{folder}/"))
        wrong = -1.0 if row["score"] is None else abs(row["score"] - row["label"])
        label = "fake" if row["label"] else "real"
        score = None if row["score"] is None else float(probability(row["score"]))  # shown as never certain
        rows.append((wrong, short, label, score, OUTCOMES.get(row["verdict"], row["verdict"]), row["reason"]))
    rows.sort(key=lambda row: -row[0])
    st.dataframe(
        [dict(zip(("File", "Label", "Score", "Called", "Reason"), row[1:], strict=True)) for row in rows],
        hide_index=True, column_config={"Score": st.column_config.NumberColumn(format="%.2f")},
        alt="Every file with its label, its score and what it was called, the worst mistakes first",
    )  # fmt: skip


def _actions(kept: Evaluations, one: Evaluation, now: str) -> None:
    with st.expander("The command"):
        st.code(shlex.join(["unmask", *one.command]), language=None, wrap_lines=True)
    with st.container(horizontal=True):
        words = {"partial": "Go on", "failed": "Try again", "done": "Evaluate again"}[now]
        hint = "Files that were measured with the same weights and settings are not measured again."
        if st.button(words, icon=":material/refresh:", help=hint):
            operator.act(lambda: kept.run(one))
            if one.running:
                st.rerun()
        with st.popover("Delete", icon=":material/delete:"):
            st.html('<p class="um-small">Figures, report and uploaded media are deleted for good.</p>')
            if st.button("Delete it", type="primary"):
                operator.act(lambda: kept.delete(one))
                if kept.get(one.id) is None:
                    st.query_params.clear()
                    st.rerun()
