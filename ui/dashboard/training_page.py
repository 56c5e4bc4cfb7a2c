"""Training runs on a Ray cluster: which there are, their curves and logs; start one from a recipe, stop one."""

from __future__ import annotations

import streamlit as st

from ui import recipe_check
from ui import training_words as texts
from ui.dashboard import operator, session
from ui.dashboard.training_view import show_run
from ui.errors import UsageError
from ui.operator_cards import state, trouble
from ui.operator_words import OPEN, TRAINING, when
from ui.training_jobs import START, Cluster, Job, Run, known_address, names


def show() -> None:
    st.title(TRAINING)
    if not operator.let_in():
        return
    cluster = _cluster()
    if cluster is None:
        return
    try:
        jobs = cluster.jobs()
    except UsageError as error:
        st.html(trouble(cluster.address, error.reason, error.hint))
        return
    opened = next((job for job in jobs if job.id == st.query_params.get("run")), None)
    if opened is not None:
        if st.button(texts.ALL, icon=":material/arrow_back:", type="tertiary"):
            st.query_params.clear()
            st.rerun()
        show_run(cluster, opened)
        return
    st.html(f'<p class="um-lead">{texts.LEAD.format(command=f"<code>{texts.LEAD_COMMAND}</code>")}</p>')
    _form(cluster, jobs)
    _runs(jobs)


def _cluster() -> Cluster | None:
    with st.expander(texts.CLUSTER, expanded=False, icon=":material/dns:"):
        left, right = st.columns([3, 2], gap="medium")
        address = left.text_input(texts.ADDRESS, known_address(), key="training-address", help=texts.ADDRESS_HELP)
        token = right.text_input(texts.TOKEN, type="password", key="training-token", help=texts.TOKEN_HELP)
    try:
        with st.spinner(texts.ASKING, show_time=False):
            return Cluster(address, token.strip())
    except UsageError as error:
        gone = START in error.hint
        hint = texts.NO_CLUSTER_HINT if gone else error.hint
        st.html(trouble(texts.NO_CLUSTER, error.reason, hint))
        if gone:
            st.subheader(texts.HOW_TO_START)
            st.markdown(texts.HOW)
            commands = texts.HOW_COMMANDS.format(start=START)
            st.code(commands, language=None, wrap_lines=True)  # its colours of a language are too pale (WCAG AA)
            st.markdown(texts.HOW_ON)
        return None


def _form(cluster: Cluster, jobs: list[Job]) -> None:
    with st.expander(texts.START_A_RUN, icon=":material/add:", expanded=not jobs):
        recipe = str(st.selectbox(texts.RECIPE, recipe_check.names(), key="training-recipe"))
        with st.popover(texts.SEE_RECIPE):
            st.code(recipe_check.text(recipe), language=None)
        left, right = st.columns(2, gap="medium")
        name = left.text_input(texts.NAME, _free(recipe, names(jobs)), key=f"training-name-{recipe}")
        workers = right.text_input(texts.WORKERS, "1", key="training-workers", help=texts.WORKERS_HELP)
        data = left.text_input(texts.DATA, key="training-data", placeholder=texts.DATA_EXAMPLE)
        storage = right.text_input(texts.STORAGE, key="training-storage", placeholder=texts.STORAGE_EXAMPLE)
        lines = st.text_area(texts.CHANGES, key="training-overrides", height=110, placeholder=texts.CHANGES_EXAMPLE)
        gpu = st.checkbox(texts.GPU, key="training-gpu")
        resume = st.checkbox(texts.RESUME, key="training-resume")
        check, start = st.container(horizontal=True), None
        if check.button(texts.CHECK, icon=":material/fact_check:"):
            operator.act(lambda: _show_checked(recipe, lines))
        if check.button(texts.START, type="primary", icon=":material/play_arrow:"):
            run = Run(recipe, name.strip(), data, storage, workers, gpu, resume)
            start = operator.act(lambda: _start(cluster, run, lines))
        if start:
            st.query_params["run"] = start
            st.rerun()


def _free(recipe: str, taken: set[str]) -> str:
    """The recipe's name, numbered where a run has it."""
    return next(name for n in range(1, len(taken) + 3) if (name := recipe if n == 1 else f"{recipe}-{n}") not in taken)


def _checked(recipe: str, lines: str) -> tuple[recipe_check.Checked, list[str]]:
    overrides = recipe_check.overrides_of(lines)
    with st.spinner(texts.CHECKING):
        return recipe_check.check(recipe, overrides), overrides


def _show_checked(recipe: str, lines: str) -> None:
    found, _ = _checked(recipe, lines)
    told = texts.CHECKED.format(detector=found.detector, parameters=found.parameters, epochs=found.epochs)
    st.success(told, icon=":material/check:")
    st.code(found.resolved, language=None, height=320)


def _start(cluster: Cluster, run: Run, lines: str) -> str:
    """Raises UsageError before anything is sent."""
    run.command()
    _, overrides = _checked(run.recipe, lines)
    whole = Run(run.recipe, run.name, run.data, run.storage, run.workers, run.gpu, run.resume, tuple(overrides))
    with st.spinner(texts.STARTING):
        return cluster.start(whole, session.api().caller()["name"])


def _runs(jobs: list[Job]) -> None:
    st.subheader(texts.RUNS)
    if not jobs:
        st.html(f'<p class="um-small">{texts.NO_RUNS}</p>')
    for job in jobs:
        with st.container(border=True, horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            name = job.storage.rsplit("/", 1)[-1] or job.recipe
            if st.button(f"**{operator.plain(name)}**", key=f"run-{job.id}", type="tertiary", icon=OPEN):
                st.query_params["run"] = job.id
                st.rerun()
            at = when(job.started) if job.started else texts.NOT_STARTED
            st.html(f"{state(texts.STATES[job.status])}<p class='um-small'>{at}</p>", width="content")
