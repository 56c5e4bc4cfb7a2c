"""The service as it runs: queue, parts and replicas, latencies, refusals, failures, and whether scores move."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import streamlit as st

from ui.client import ApiError
from ui.dashboard import operator, session
from ui.dashboard.charts import chart
from ui.operator_cards import breakable, state, table, tiles, trouble
from ui.operator_plots import drift_figure, stages_figure
from ui.operator_words import (
    ANSWER_STATES,
    ANSWERS,
    DRIFT_ALT,
    DRIFT_P,
    OUTCOMES,
    PARTS,
    REPLICAS,
    SILENT,
    STAGES_ALT,
    TIMINGS,
    count,
    seconds,
    when,
)
from ui.words import size

LOOK_S = 5.0
LEAD = "Drawn anew every five seconds. Latencies, failures and scores are those of the newest analyses that ended."


def show() -> None:
    st.title("Operate")
    if not operator.let_in():
        return
    st.html(f'<p class="um-lead">{LEAD}</p>')
    _now()


@st.fragment(run_every=LOOK_S)
def _now() -> None:
    try:
        found = session.api().operations()
    except ApiError as error:
        st.html(trouble("The service", error.reason, error.hint))
        return
    st.html(tiles(_at_a_glance(found)))
    st.subheader("Parts")
    st.html(_parts(found["parts"]))
    _latencies(found)
    st.subheader("Answers of the API")
    st.html('<p class="um-small">Since the gateway started. 503 and 429 are refusals under load: try again later.</p>')
    st.html(_requests(found["requests"]))
    _failures(found)
    _drift(found["scores"])


def _at_a_glance(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    queue = found["queue"]
    waits = (
        f"the oldest for {seconds(queue['oldest_wait_s'])}" if queue["queued"] else f"{queue['max_queued']} may wait"
    )
    took, waited = found["took"] or {}, found["waited"] or {}
    streams = f"streams {queue['streams']} of {queue['max_streams']}"
    return [
        ("Waiting", str(queue["queued"]), waits),
        ("Running", str(queue["running"]), f"{queue['done']:,} done, {queue['failed']:,} failed"),
        ("Time waited", seconds(waited.get("median")), f"95 % within {seconds(waited.get('p95'))}"),
        ("Time taken", seconds(took.get("median")), f"95 % within {seconds(took.get('p95'))}"),
        ("Uploads", f"{queue['uploads']} of {queue['max_uploads']}", streams),
        ("Free storage", size(queue["free_bytes"]), f"uploads stop below {size(queue['min_free_bytes'])}"),
    ]  # fmt: skip


def _parts(parts: list[dict[str, Any]]) -> str:
    rows = []
    for part in parts:
        known = PARTS.get(part["status"]) or (ANSWERS if part["ready"] else SILENT)
        shown = SILENT if part["ready"] is False and part["status"] in ("", "HEALTHY") else known
        message = f"<small>{escape(part['message'][:300])}</small>" if part["message"] else ""
        replicas = ", ".join(f"{n} {REPLICAS.get(s, s.lower())}" for s, n in part["replicas"].items()) or "–"
        held = ", ".join(f"{escape(step)} {n}" for step, n in sorted(part["in_hand"].items())) or "nothing"
        rows.append([escape(part["name"]), state(shown) + message, escape(replicas).replace(" ", "&nbsp;"), held])
    return table(["Part", "State", "Replicas", "In hand"], rows, "Parts of the service", words=(1, 2, 3))


def _latencies(found: Mapping[str, Any]) -> None:
    st.subheader("Where the time goes")
    if not found["stages"]:
        st.html('<p class="um-small">Nothing was analysed yet.</p>')
        return
    since = f"{count(found['analyses'], 'analysis', 'analyses')} since {when(found['since'])}"
    st.html(f'<p class="um-small">{since}. Bars: median; lines reach to the 95th percentile.</p>')
    told = "; ".join(f"{TIMINGS.get(name, name)} {seconds(one['median'])}" for name, one in found["stages"].items())
    chart(stages_figure(found["stages"]), key="stages", alt=STAGES_ALT.format(stages=told))


def _requests(requests: list[dict[str, Any]]) -> str:
    rows = []
    for one in requests:
        good = sum(n for status, n in one["answers"].items() if status < "400")
        refused = ", ".join(f"{n} × {status}" for status, n in sorted(one["answers"].items()) if status >= "400")
        rows.append(
            [
                f"{escape(one['method'])} {breakable(one['route'])}", f"{good:,}", escape(refused) or "none",
                seconds(one["median_s"]), seconds(one["p95_s"]),
            ]
        )  # fmt: skip
    head = ["Route", "Answered", "Refused", "Median", "95 % within"]
    return table(head, rows, "Answers by route", words=(2,), stacked=True)


def _failures(found: Mapping[str, Any]) -> None:
    st.subheader("What came out")
    if not found["analyses"]:
        st.html('<p class="um-small">Nothing was analysed yet.</p>')
        return
    outcomes = [[escape(OUTCOMES.get(name, name.replace("_", " "))), f"{n:,}"] for name, n in found["outcomes"].items()]
    st.html(table(["Outcome", "Analyses"], outcomes, "Outcomes"))
    states = [name for name in ANSWER_STATES if any(name in one for one in found["detectors"].values())]
    rows = [[escape(name), *(f"{one.get(s, 0):,}" for s in states)] for name, one in found["detectors"].items()]
    if rows:
        st.html(table(["Detector, faces", *(ANSWER_STATES[s] for s in states)], rows, "Answers of the detectors"))


def _drift(scores: Mapping[str, Mapping[str, Any]]) -> None:
    st.subheader("Do the scores move?")
    st.html(
        '<p class="um-small">The newer half of those analyses against the older half. A shift may come from what is '
        "uploaded as well as from the service.</p>"
    )
    if not scores:
        return
    names = sorted(scores, key=lambda name: (name != "fused", name))
    chosen = st.segmented_control(
        "Scores of", names, default=names[0], required=True, key="drift-of",
        format_func=lambda name: "together" if name == "fused" else name,
    )  # fmt: skip
    one = scores[chosen or names[0]]
    many = sum(one["newer"]), sum(one["older"])
    if one["distance"] is None:
        words = f"Too few scores to tell: {many[0]} newer, {many[1]} older."
    else:
        moved = "They moved by more than chance" if one["p"] < DRIFT_P else "No more than chance"
        words = f"{moved}: largest gap {one['distance']:.2f}, p {one['p']:.2g}, of {many[0]} and {many[1]} scores."
    st.html(f'<p class="um-small"><b>{words}</b></p>')
    chart(drift_figure(one), key="drift", alt=DRIFT_ALT.format(words=words))
