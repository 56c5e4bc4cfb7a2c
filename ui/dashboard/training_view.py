"""One training run on the page: where it is, its curves, the end of its log; stop it."""

from __future__ import annotations

from html import escape

import streamlit as st

from ui import training_words as texts
from ui.dashboard import operator
from ui.dashboard.charts import chart
from ui.errors import UsageError
from ui.operator_cards import state, tiles, trouble
from ui.operator_plots import auc_figure, losses_figure
from ui.operator_words import COMMAND, STOP, seconds, when
from ui.training_jobs import Cluster, Job
from ui.training_log import Curves, curves, tail

LOOK_S = 3.0


def show_run(cluster: Cluster, job: Job) -> None:
    """All that the cluster says of it."""
    st.subheader(operator.plain(job.storage.rsplit("/", 1)[-1] or job.recipe))
    _live(cluster, job) if not job.over else _body(cluster, job)


@st.fragment(run_every=LOOK_S)
def _live(cluster: Cluster, job: Job) -> None:
    """Drawn anew by itself while the run goes on; at its end the whole page is."""
    try:
        now = cluster.job(job.id)
    except UsageError as error:
        st.html(trouble(cluster.address, error.reason, error.hint))
        return
    if now is None or now.over:
        st.rerun()
    else:
        _body(cluster, now)


def _body(cluster: Cluster, job: Job) -> None:
    st.html(f'{state(texts.STATES[job.status])}<p class="um-small">{escape(_started(job))}</p>')
    try:
        log = cluster.log(job.id)
    except UsageError as error:
        st.html(trouble(texts.THE_LOG, error.reason, error.hint))
        log = ""
    found = curves(log)
    if job.status == "FAILED":
        st.html(trouble(job.recipe, _why(job, log), texts.FAILED_HINT))
    if not job.over and st.button(STOP, icon=":material/stop_circle:", help=texts.STOP_HELP):
        operator.act(lambda: cluster.stop(job.id))
    if found.place and not job.over:
        st.progress(min(found.place.epochs_done / found.place.epochs, 1.0), text=_place(found))
    _curves(found)
    if job.storage:
        place = f"<code>{escape(job.storage)}</code>"
        st.html(f'<p class="um-small">{texts.KEPT_IN.format(place=place)}</p>')
    with st.expander(texts.LOG_END, expanded=not found.epochs):
        st.html(f'<pre class="um-log" tabindex="0">{escape(tail(log)) or texts.LOG_EMPTY}</pre>')
    with st.expander(COMMAND):
        st.code(job.entrypoint, language=None, wrap_lines=True)


def _started(job: Job) -> str:
    """From which recipe, when, how long it took, and by whom."""
    parts = [texts.OF_RECIPE.format(name=job.recipe), when(job.started) if job.started else texts.NOT_STARTED]
    if job.started and job.ended:
        parts.append(seconds(job.ended - job.started))
    if job.by:
        parts.append(texts.STARTED_BY.format(name=job.by))
    return " · ".join(parts)


def _place(found: Curves) -> str:
    assert found.place is not None
    done, epochs = found.place.epochs_done, found.place.epochs
    if done == int(done) and (not found.epochs or found.epochs[-1].epoch < done):
        return texts.VALIDATING.format(epoch=done, epochs=epochs)
    return texts.PLACE.format(done=done, epochs=epochs, left=found.place.left)


def _why(job: Job, log: str) -> str:
    """The run's own last word where it has one: Ray's only gives the exit code."""
    own = [line for line in log.splitlines() if line.startswith("python -m train:")]
    return own[-1].removeprefix("python -m train:").strip() if own else job.message or texts.FAILED_SILENT


def _curves(found: Curves) -> None:
    if not found.epochs:
        if not found.steps:
            return
        chart(losses_figure(found), key="losses", alt=texts.STEPS_ALT.format(loss=found.steps[-1][1]))
        return
    last, best = found.epochs[-1], found.best
    assert best is not None
    of = texts.TILE_EPOCHS.format(epochs=found.place.epochs) if found.place else ""
    shown = [
        (texts.TILES["epochs"], str(last.epoch), of),
        (texts.TILES["auc"], f"{best.auc:.3f}", texts.TILE_AUC.format(epoch=best.epoch)),
        (texts.TILES["loss"], f"{last.val_loss:.3f}", texts.TILE_LOSS.format(loss=last.train_loss)),
        (texts.TILES["waited"], f"{last.wait} %", texts.TILE_WAITED),
    ]
    st.html(tiles(shown))
    left, right = st.columns(2, gap="medium")
    with left:
        alt = texts.LOSSES_ALT.format(epochs=last.epoch, training=last.train_loss, validation=last.val_loss)
        chart(losses_figure(found), key="losses", alt=alt)
    with right:
        alt = texts.AUC_ALT.format(epochs=last.epoch, auc=last.auc, best=best.auc, at=best.epoch)
        chart(auc_figure(found), key="auc", alt=alt)
