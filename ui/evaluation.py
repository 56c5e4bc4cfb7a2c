"""`unmask evaluate`: labelled media through the shipped pipeline; figures as tables, JSON and an HTML report."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from preprocessing.settings import Backend
from ui.errors import UsageError
from ui.scan import load_settings, stages_on
from ui.words import printable

COLUMNS = {
    "auc": "AUC", "ap": "AP", "eer": "EER", "accuracy": "accuracy", "f1": "F1", "tpr_at_1fpr": "TPR@1%",
    "tpr_at_5fpr": "TPR@5%", "fpr_at_threshold": "FPR", "ece": "ECE", "brier": "Brier",
}  # fmt: skip
WITH_INTERVAL = ("auc", "accuracy")
"""A terminal has no room for every interval; the JSON and the report have them all."""
WORDS = {
    "clean": "analysing",
    "figures": "working out the figures",
    "stopping": "finishing the files under way",
}
WORST = 8
"""Mistakes of each class that a report shows as pictures."""


@dataclass(frozen=True)
class Choice:
    """Which rows, as in `train.labelled.read_items`, and how they are analysed, as in `train.evaluate.evaluate`."""

    split: str | None = None
    kind: str | None = None
    sha_prefix: str | None = None
    without: str | None = None
    limit: int | None = None
    level: str | None = None
    perturb: str | None = None
    jobs: int = 1
    save: Path | None = None
    trained_on: Path | None = None
    """A pack, prepared set or media: what of it is evaluated again stops the run, unless `allow_leaks`."""
    allow_leaks: bool = False
    progress: Path | None = None
    """A file that says how far the run is, for whoever watches it: {what, done, total}."""
    allow_fitted: bool = False
    """Files that calibration or fusion were fitted on stop the run without it; with it, the report counts them."""
    backend: Backend = "torch"


def run(
    data: Path, detectors: str | None, config: Path | None, json_to: str | None, report: Path | None, choice: Choice
) -> int:
    """Evaluate and print. The exit code: 3 where it was interrupted or a file could not be analysed. Raises
    UsageError."""
    settings = load_settings(config, detectors)
    levels = _levels(choice.level)
    for option, target in (("--report", report), ("--json", None if json_to in (None, "-") else Path(json_to or ""))):
        if target is not None and (target.is_dir() or not target.parent.is_dir()):
            raise UsageError(f"{option} {target}: no file can be written there", "name a file in a folder that exists")
    from train.evaluate import evaluate, read_items, to_json
    from train.robustness import steps_of

    if not data.exists():
        raise UsageError(f"--data {data}: no such file or folder")
    perturb = _names(choice.perturb)
    try:
        items = read_items(
            data,
            split=choice.split,
            kind=choice.kind,
            sha_prefix=choice.sha_prefix,
            without=_names(choice.without),
            limit=choice.limit,
        )
        steps_of(perturb)
    except ValueError as error:
        raise UsageError(str(error)) from None
    stages = stages_on(choice.backend, settings.detectors)
    if not stages.infos():
        raise UsageError("no detector has trained weights here", "see unmask weights list")
    _refuse_fitted(items, choice)
    leaks = _leaks(items, choice)
    keep = _Keeper(choice.progress)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(28), TextColumn("{task.completed:.0f}/{task.total:.0f}"))
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("starting", total=len(items))

        def told(what: str, done: int, total: int) -> None:
            words = WORDS.get(what, what)
            bar.update(task, completed=done, total=total, description=words)
            keep(what, done, total)

        try:
            found = evaluate(
                items, stages, settings, told, levels=levels, perturb=perturb, jobs=choice.jobs, save=choice.save
            )
        except OSError as error:
            where = f"--save {choice.save}" if choice.save else "temporary files (TMPDIR)"
            raise UsageError(f"{where}: {error.strerror or error}") from None
        found |= leaks
        if report is not None:
            _write_report(found, report, data, stages, settings, told)
    if json_to == "-":
        sys.stdout.write(to_json(found))
    elif json_to:
        _write(Path(json_to), to_json(found), "--json")
    if json_to != "-":
        Console(highlight=False, width=None if sys.stdout.isatty() else 140).print(render(found))
    failed = any(row["verdict"] == "failed" for row in found["scores"])
    return 3 if found["partial"] or failed else 0


class _Keeper:
    """Writes how far a run is into a file, whole at any moment. Raises UsageError where it cannot be written."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self("starting", 0, 0)

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._file is None:
            return
        part = self._file.with_name(f"{self._file.name}.part")
        _write(part, json.dumps({"what": what, "done": done, "total": total}), "--progress")
        part.replace(self._file)


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM, of a scheduler or of a page, ends the run as Ctrl-C does: what there is by then is reported."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _refuse_fitted(items: Sequence[Any], choice: Choice) -> None:
    """Raises UsageError where files are among those that calibration or fusion saw, unless that is allowed."""
    from detectors.fusion import fitted_overlap

    shas = {item.digest(): item for item in items if item.sha256 or item.path.is_file()}
    seen = [] if choice.allow_fitted else fitted_overlap(shas)
    if seen:
        names = ", ".join(shas[sha].path.name for sha in seen[:3]) + (", ..." if len(seen) > 3 else "")
        raise UsageError(
            f"{len(seen)} of the {len(items)} files were used to fit the calibration or the fusion: {names}",
            "figures on them flatter: take others, measure with `python -m train.calibrate crossfit`, or go on with "
            "--allow-fitted, and the report says so",
        )


def _leaks(items: Sequence[Any], choice: Choice) -> dict[str, Any]:
    """What the evaluated files share with what was trained on, for the JSON. Raises UsageError unless it is allowed."""
    if choice.trained_on is None:
        return {}
    from train.leaks import of_evaluation
    from train.recipe import RecipeError

    try:
        found = of_evaluation(items, choice.trained_on, choice.allow_leaks)
    except RecipeError as error:
        raise UsageError(f"--trained-on {choice.trained_on}: {error}") from None
    Console(stderr=True).print(f"{found}{' (allowed)' if found.allowed else ''}", markup=False, highlight=False)
    return {"leaks": found.as_dict()}


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _levels(asked: str | None) -> Sequence[Any]:
    from train.levels import LEVELS

    if asked in (None, "all"):
        return LEVELS
    for name in _names(asked):
        if name not in LEVELS:
            raise UsageError(f"--level {name}: no such level; there are {', '.join(LEVELS)} and all")
    return _names(asked)


def _write_report(found: Mapping[str, Any], report: Path, data: Path, stages: Any, settings: Any, told: Any) -> None:
    from train.report import render as as_html
    from train.report.pictures import draw, worst

    pictures = []
    if not found["partial"]:  # whoever pressed Ctrl-C wants no more analyses
        chosen = worst(found["scores"], WORST)
        pictures = draw(chosen, stages, settings, lambda done, total: told("drawing the worst mistakes", done, total))
    _write(report, as_html(found, pictures, f"Evaluation of {printable(data.resolve().name)}"), "--report")


def _write(target: Path, text: str, option: str) -> None:
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{option} {target}: {error.strerror}") from None


def render(found: Mapping[str, Any]) -> Group:
    """What the terminal shows: the figures, what got no verdict, the robustness grid, and what to know."""
    parts: list[Any] = [_figures(found)]
    if found["outcomes"]:
        parts += [Text(), _outcomes(found["outcomes"])]
    if found.get("robustness"):
        parts += [Text(), _robustness(found)]
    notes = [
        f"Threshold {found['threshold']:.2f}, of detectors by themselves 0.50. "
        "Intervals: 95 %, by video, and by person where the manifest says."
    ]
    if any("all" in of.values() for of in found["reals"].values()):
        notes.append("* no reals of its own: against all reals.")
    if found.get("fitted_on_these"):
        notes.append(
            f"Calibration or fusion were fitted on {found['fitted_on_these']} of these files: figures on them flatter."
        )
    if found["partial"]:
        lacks = ", and --perturb lacks files and steps" if found.get("robustness") is not None else ""
        notes.append(f"Interrupted: {found['items']} of {found['planned']} files{lacks}; --save DIR lets a run go on.")
    return Group(*parts, Text(), *(Text(note) for note in notes))


def _figures(found: Mapping[str, Any]) -> Table:
    covered = found["coverage"]["value"]
    share = "none" if covered is None else f"{covered:.0%}"
    table = Table(title=f"{found['items']} files, {share} of them with a score", title_justify="left", box=None)
    table.add_column("", overflow="fold")
    for words in ("n", *COLUMNS.values()):
        table.add_column(words, justify="right", no_wrap=True)
    _add(table, "fused, all", found["overall"])
    for name, figures in found["by_detector"].items():
        _add(table, name, figures)
    for level, one in found["levels"].items():
        if level != "video":
            rows = {**({"fused": one["overall"]} if one["overall"] else {}), **one["by_detector"]}
            for name, figures in rows.items():
                _add(table, f"{name}, each {level}", figures)
    for key, words in (("by_dataset", "Fused, by data set"), ("by_method", "Fused, by manipulation")):
        if found[key]:
            table.add_row("")
            table.add_row(Text(words, "italic"))
        for name, figures in found[key].items():
            star = " *" if found["reals"].get(key, {}).get(name) == "all" else ""
            _add(table, f"{printable(name)}{star}", figures)
    return table


def _add(table: Table, name: str, figures: Mapping[str, Any]) -> None:
    values = (_estimate(figures.get(figure), figure in WITH_INTERVAL) for figure in COLUMNS)
    table.add_row(Text(name), str(figures["accuracy"]["n"] if figures else 0), *values)


def _estimate(estimate: Mapping[str, Any] | None, interval: bool = True) -> str:
    if not estimate or estimate.get("value") is None:
        return "–"
    low, high = estimate.get("low"), estimate.get("high")
    span = f" ({low:.2f} to {high:.2f})" if interval and low is not None and high is not None else ""
    return f"{estimate['value']:.3f}{span}"


def _outcomes(outcomes: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="No verdict", title_justify="left", box=None)
    for words in ("outcome", "files", "real", "fake", "reason"):
        table.add_column(words, justify="right" if words in ("files", "real", "fake") else "left")
    for one in outcomes:
        counts = (str(one[key]) for key in ("count", "real", "fake"))
        table.add_row(one["outcome"].replace("_", " "), *counts, Text(one["reason"]))
    return table


def _robustness(found: Mapping[str, Any]) -> Table:
    table = Table(title="Robustness, fused score", title_justify="left", box=None)
    for words in ("suite", "step", "files", "coverage", "AUC", "change", "accuracy", "FPR"):
        table.add_column(words, justify="left" if words in ("suite", "step") else "right")
    for suite, steps in found["robustness"].items():
        for step, cell in steps.items():
            change = cell["change"]["fused"]
            moved = "–" if change is None else f"{change['difference']:+.3f}"
            if change and change["low"] is not None:
                moved += f" ({change['low']:+.2f} to {change['high']:+.2f})"
            figures = cell["overall"]
            table.add_row(
                suite, step, str(cell["items"]), _estimate(cell["coverage"], False), _estimate(figures["auc"]), moved,
                _estimate(figures["accuracy"]), _estimate(figures["fpr_at_threshold"], False),
            )  # fmt: skip
    return table
