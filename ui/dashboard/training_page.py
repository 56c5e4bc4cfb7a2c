"""Training runs on a Ray cluster: which there are, their curves and logs; start one from a recipe, stop one."""

from __future__ import annotations

import streamlit as st

from ui import recipe_check
from ui.dashboard import operator, session
from ui.dashboard.training_view import show_run
from ui.errors import UsageError
from ui.operator_cards import state, trouble
from ui.operator_words import JOBS, OPEN, when
from ui.training_jobs import START, Cluster, Job, Run, known_address, names

LEAD = (
    "Training runs on a Ray cluster, as jobs that go on whether or not this page is open. A run starts from a recipe; "
    "what it learned is kept where you say, and `python -m train.export` makes it a detector's weights."
)
HOW = "On this machine alone, with a token that nobody else has:"
COMMANDS = f"ray get-auth-token --generate\n{START}"
HOW_ON = (
    "Then start this dashboard with `RAY_AUTH_MODE=token` in its environment. For machines in a cloud or on Kubernetes "
    "see docs/training.md."
)


def show() -> None:
    st.title("Training")
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
        if st.button("All runs", icon=":material/arrow_back:", type="tertiary"):
            st.query_params.clear()
            st.rerun()
        show_run(cluster, opened)
        return
    st.html(f'<p class="um-lead">{LEAD.replace("`python -m train.export`", "<code>python -m train.export</code>")}</p>')
    _form(cluster, jobs)
    _runs(jobs)


def _cluster() -> Cluster | None:
    with st.expander("Cluster", expanded=False, icon=":material/dns:"):
        left, right = st.columns([3, 2], gap="medium")
        address = left.text_input(
            "Address of Ray's dashboard", known_address(), key="training-address",
            help="Where `ray dashboard` or the head listens, as http://HOST:8265.",
        )  # fmt: skip
        token = right.text_input(
            "Its token", type="password", key="training-token",
            help="Ray's own, not unmask's. Without it, that of this dashboard's environment is used, but only for the "
            "cluster that the environment names, and for this machine.",
        )  # fmt: skip
    try:
        with st.spinner("Asking the cluster", show_time=False):
            return Cluster(address, token.strip())
    except UsageError as error:
        gone = START in error.hint
        hint = "name the address of Ray's dashboard above, or start a cluster" if gone else error.hint
        st.html(trouble("No cluster", error.reason, hint))
        if gone:
            st.subheader("How to start one")
            st.markdown(HOW)
            st.code(COMMANDS, language=None, wrap_lines=True)  # its colours of a language are too pale (WCAG AA)
            st.markdown(HOW_ON)
        return None


def _form(cluster: Cluster, jobs: list[Job]) -> None:
    with st.expander("Start a run", icon=":material/add:", expanded=not jobs):
        recipe = str(st.selectbox("Recipe", recipe_check.names(), key="training-recipe"))
        with st.popover("See the recipe"):
            st.code(recipe_check.text(recipe), language=None)
        left, right = st.columns(2, gap="medium")
        name = left.text_input("Name of the run", _free(recipe, names(jobs)), key=f"training-name-{recipe}")
        workers = right.text_input("Workers", "1", key="training-workers", help="A number, or a range such as 2-4.")
        data = left.text_input(
            "Data, as the cluster sees them", key="training-data", placeholder="/shared/data or s3://bucket/data"
        )
        storage = right.text_input(
            "Where to keep the run", key="training-storage", placeholder="/shared/runs or s3://bucket/runs"
        )
        lines = st.text_area(
            "Changes to the recipe, one key=value a line", key="training-overrides", height=110,
            placeholder="epochs=5\noptimiser.lr=3e-4",
        )  # fmt: skip
        gpu = st.checkbox("A GPU for each worker", key="training-gpu")
        resume = st.checkbox("Go on with the run of this name", key="training-resume")
        check, start = st.container(horizontal=True), None
        if check.button("Check the recipe", icon=":material/fact_check:"):
            operator.act(lambda: _show_checked(recipe, lines))
        if check.button("Start", type="primary", icon=":material/play_arrow:"):
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
    with st.spinner("Checking the recipe"):
        return recipe_check.check(recipe, overrides), overrides


def _show_checked(recipe: str, lines: str) -> None:
    found, _ = _checked(recipe, lines)
    st.success(f"{found.detector}, {found.parameters:,} parameters, {found.epochs} epochs", icon=":material/check:")
    st.code(found.resolved, language=None, height=320)


def _start(cluster: Cluster, run: Run, lines: str) -> str:
    """Raises UsageError before anything is sent."""
    run.command()
    _, overrides = _checked(run.recipe, lines)
    whole = Run(run.recipe, run.name, run.data, run.storage, run.workers, run.gpu, run.resume, tuple(overrides))
    with st.spinner("Sending the code and starting the run"):
        return cluster.start(whole, session.api().caller()["name"])


def _runs(jobs: list[Job]) -> None:
    st.subheader("Runs")
    if not jobs:
        st.html('<p class="um-small">None on this cluster yet.</p>')
    for job in jobs:
        with st.container(border=True, horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            name = job.storage.rsplit("/", 1)[-1] or job.recipe
            if st.button(f"**{operator.plain(name)}**", key=f"run-{job.id}", type="tertiary", icon=OPEN):
                st.query_params["run"] = job.id
                st.rerun()
            at = when(job.started) if job.started else "not started yet"
            st.html(f"{state(JOBS[job.status])}<p class='um-small'>{at}</p>", width="content")
