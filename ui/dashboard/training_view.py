"""One training run on the page: where it is, its curves, the end of its log; stop it."""

from __future__ import annotations

from html import escape

import streamlit as st

from ui.dashboard import operator
from ui.dashboard.charts import chart
from ui.errors import UsageError
from ui.operator_cards import state, tiles, trouble
from ui.operator_plots import auc_figure, losses_figure
from ui.operator_words import AUC_ALT, JOBS, LOSSES_ALT, STEPS_ALT, seconds, when
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
    by = f" · by {job.by}" if job.by else ""
    at = when(job.started) if job.started else "not started yet"
    took = f" · {seconds(job.ended - job.started)}" if job.started and job.ended else ""
    st.html(f'{state(JOBS[job.status])}<p class="um-small">recipe {escape(job.recipe)} · {at}{took}{escape(by)}</p>')
    try:
        log = cluster.log(job.id)
    except UsageError as error:
        st.html(trouble("The log", error.reason, error.hint))
        log = ""
    found = curves(log)
    if job.status == "FAILED":
        st.html(trouble(job.recipe, _why(job, log), "the log below says more"))
    if not job.over and st.button("Stop", icon=":material/stop_circle:", help="The finished epochs are kept."):
        operator.act(lambda: cluster.stop(job.id))
    if found.place and not job.over:
        st.progress(min(found.place.epochs_done / found.place.epochs, 1.0), text=_place(found))
    _curves(found)
    if job.storage:
        st.html(f'<p class="um-small">Kept in <code>{escape(job.storage)}</code></p>')
    with st.expander("The end of the log", expanded=not found.epochs):
        st.html(f'<pre class="um-log" tabindex="0">{escape(tail(log)) or "nothing yet"}</pre>')
    with st.expander("The command"):
        st.code(job.entrypoint, language=None, wrap_lines=True)


def _place(found: Curves) -> str:
    assert found.place is not None
    done, epochs = found.place.epochs_done, found.place.epochs
    if done == int(done) and (not found.epochs or found.epochs[-1].epoch < done):
        return f"validating epoch {done:.0f} of {epochs}"
    return f"{done:.1f} of {epochs} epochs, {found.place.left} left"


def _why(job: Job, log: str) -> str:
    """The run's own last word where it has one: Ray's only gives the exit code."""
    own = [line for line in log.splitlines() if line.startswith("python -m train:")]
    return own[-1].removeprefix("python -m train:").strip() if own else job.message or "it ended with an error"


def _curves(found: Curves) -> None:
    if not found.epochs:
        if not found.steps:
            return
        chart(losses_figure(found), key="losses", alt=STEPS_ALT.format(loss=found.steps[-1][1]))
        return
    last, best = found.epochs[-1], found.best
    assert best is not None
    shown = [
        ("Epochs done", str(last.epoch), f"of {found.place.epochs}" if found.place else ""),
        ("Best validation AUC", f"{best.auc:.3f}", f"in epoch {best.epoch}"),
        ("Validation loss", f"{last.val_loss:.3f}", f"training {last.train_loss:.3f}"),
        ("Waited for data", f"{last.wait} %", "of the training's time"),
    ]
    st.html(tiles(shown))
    left, right = st.columns(2, gap="medium")
    with left:
        alt = LOSSES_ALT.format(epochs=last.epoch, training=last.train_loss, validation=last.val_loss)
        chart(losses_figure(found), key="losses", alt=alt)
    with right:
        alt = AUC_ALT.format(epochs=last.epoch, auc=last.auc, best=best.auc, at=best.epoch)
        chart(auc_figure(found), key="auc", alt=alt)
