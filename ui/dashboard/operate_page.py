"""The service as it runs: queue, parts and replicas, latencies, refusals, failures, and whether scores move."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import streamlit as st

from ui import operator_words as texts
from ui.client import ApiError
from ui.dashboard import operator, session
from ui.dashboard.charts import chart
from ui.operator_cards import breakable, state, table, tiles, trouble
from ui.operator_plots import drift_figure, stages_figure
from ui.operator_words import count, seconds, when
from ui.words import TOGETHER, size

LOOK_S = 5.0


def show() -> None:
    st.title(texts.OPERATE)
    if not operator.let_in():
        return
    st.html(f'<p class="um-lead">{texts.OPERATE_LEAD}</p>')
    _now()


@st.fragment(run_every=LOOK_S)
def _now() -> None:
    try:
        found = session.api().operations()
    except ApiError as error:
        st.html(trouble(texts.THE_SERVICE, error.reason, error.hint))
        return
    st.html(tiles(_at_a_glance(found)))
    st.subheader(texts.THE_PARTS)
    st.html(_parts(found["parts"]))
    _latencies(found)
    st.subheader(texts.REQUESTS)
    st.html(f'<p class="um-small">{texts.REQUESTS_HINT}</p>')
    st.html(_requests(found["requests"]))
    _failures(found)
    _drift(found["scores"])


def _at_a_glance(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    queue = found["queue"]
    if queue["queued"]:
        waits = texts.GLANCE_OLDEST.format(time=seconds(queue["oldest_wait_s"]))
    else:
        waits = texts.GLANCE_MAY_WAIT.format(count=queue["max_queued"])
    took, waited = found["took"] or {}, found["waited"] or {}
    ended = texts.GLANCE_ENDED.format(done=queue["done"], failed=queue["failed"])
    uploads = texts.GLANCE_UPLOADS.format(count=queue["uploads"], most=queue["max_uploads"])
    streams = texts.GLANCE_STREAMS.format(count=queue["streams"], most=queue["max_streams"])
    stop = texts.GLANCE_UPLOADS_STOP.format(size=size(queue["min_free_bytes"]))
    title = texts.GLANCE
    return [
        (title["waiting"], str(queue["queued"]), waits),
        (title["running"], str(queue["running"]), ended),
        (title["waited"], seconds(waited.get("median")), texts.WITHIN.format(time=seconds(waited.get("p95")))),
        (title["took"], seconds(took.get("median")), texts.WITHIN.format(time=seconds(took.get("p95")))),
        (title["uploads"], uploads, streams),
        (title["storage"], size(queue["free_bytes"]), stop),
    ]


def _parts(parts: list[dict[str, Any]]) -> str:
    rows = []
    for part in parts:
        known = texts.PARTS.get(part["status"]) or (texts.ANSWERS if part["ready"] else texts.SILENT)
        shown = texts.SILENT if part["ready"] is False and part["status"] in ("", "HEALTHY") else known
        message = f"<small>{escape(part['message'][:300])}</small>" if part["message"] else ""
        replicas = ", ".join(f"{n} {texts.REPLICAS.get(s, s.lower())}" for s, n in part["replicas"].items()) or "–"
        held = ", ".join(f"{step} {n}" for step, n in sorted(part["in_hand"].items())) or texts.NOTHING_IN_HAND
        unbroken = escape(replicas).replace(" ", "&nbsp;")
        rows.append([escape(part["name"]), state(shown) + message, unbroken, escape(held)])
    return table(texts.PARTS_HEAD, rows, texts.PARTS_CAPTION, words=(1, 2, 3))


def _latencies(found: Mapping[str, Any]) -> None:
    st.subheader(texts.LATENCIES)
    if not found["stages"]:
        st.html(f'<p class="um-small">{texts.NOTHING_ANALYSED}</p>')
        return
    analyses = count(found["analyses"], *texts.ANALYSES)
    said = texts.LATENCIES_OF.format(analyses=analyses, when=when(found["since"]))
    st.html(f'<p class="um-small">{said}</p>')
    medians = ((texts.TIMINGS.get(name, name), one["median"]) for name, one in found["stages"].items())
    told = "; ".join(f"{name} {seconds(median)}" for name, median in medians)
    chart(stages_figure(found["stages"]), key="stages", alt=texts.STAGES_ALT.format(stages=told))


def _requests(requests: list[dict[str, Any]]) -> str:
    rows = []
    for one in requests:
        good = sum(n for status, n in one["answers"].items() if status < "400")
        refused = ", ".join(f"{n} × {status}" for status, n in sorted(one["answers"].items()) if status >= "400")
        rows.append(
            [
                f"{escape(one['method'])} {breakable(one['route'])}", f"{good:,}",
                escape(refused) or texts.NONE_REFUSED, seconds(one["median_s"]), seconds(one["p95_s"]),
            ]
        )  # fmt: skip
    return table(texts.REQUESTS_HEAD, rows, texts.REQUESTS_CAPTION, words=(2,), stacked=True)


def _failures(found: Mapping[str, Any]) -> None:
    st.subheader(texts.CAME_OUT)
    if not found["analyses"]:
        st.html(f'<p class="um-small">{texts.NOTHING_ANALYSED}</p>')
        return
    named = ((texts.OUTCOMES.get(name, name.replace("_", " ")), n) for name, n in found["outcomes"].items())
    outcomes = [[escape(words), f"{n:,}"] for words, n in named]
    st.html(table(texts.OUTCOMES_HEAD, outcomes, texts.OUTCOMES_CAPTION))
    states = [name for name in texts.ANSWER_STATES if any(name in one for one in found["detectors"].values())]
    rows = [[escape(name), *(f"{one.get(s, 0):,}" for s in states)] for name, one in found["detectors"].items()]
    if rows:
        head = [texts.STATES_HEAD, *(texts.ANSWER_STATES[s] for s in states)]
        st.html(table(head, rows, texts.STATES_CAPTION))


def _drift(scores: Mapping[str, Mapping[str, Any]]) -> None:
    st.subheader(texts.DRIFT)
    st.html(f'<p class="um-small">{texts.DRIFT_HINT}</p>')
    if not scores:
        return
    names = sorted(scores, key=lambda name: (name != "fused", name))
    chosen = st.segmented_control(
        texts.DRIFT_OF, names, default=names[0], required=True, key="drift-of",
        format_func=lambda name: TOGETHER if name == "fused" else name,
    )  # fmt: skip
    one = scores[chosen or names[0]]
    many = {"newer": sum(one["newer"]), "older": sum(one["older"])}
    if one["distance"] is None:
        words = texts.DRIFT_FEW.format(**many)
    else:
        said = texts.DRIFT_MOVED if one["p"] < texts.DRIFT_P else texts.DRIFT_CHANCE
        words = said.format(gap=one["distance"], p=one["p"], **many)
    st.html(f'<p class="um-small"><b>{words}</b></p>')
    chart(drift_figure(one), key="drift", alt=texts.DRIFT_ALT.format(words=words))
