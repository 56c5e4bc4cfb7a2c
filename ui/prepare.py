"""`unmask prepare`: a data set into shards of faces, with a progress bar and a report."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ui.errors import UsageError

TELL_EVERY_S = 30.0
"""Between two lines of progress where no terminal shows a bar."""


def run(
    dataset: str,
    root: str,
    out: str | None,
    options: dict[str, Any],
    *,
    methods: str | None = None,
    compressions: str | None = None,
    limit: int | None = None,
    local: bool = False,
    workers: int | None = None,
    address: str | None = None,
) -> int:
    """Prepare and report; `options` are fields of PrepareSettings. Exit 0 all read, 3 some could not be.

    Without `out` only says what the data set holds. Raises UsageError.
    """
    from preprocessing.datasets import DatasetError
    from preprocessing.models import ModelFileError
    from train.prepare.run import choose, index, prepare
    from train.prepare.settings import PrepareError

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    settings = _settings(options)
    try:
        found, notes = index(dataset, root, settings)
        items = choose(found.items, _names(methods), _names(compressions), limit)
        _tell_index(console, found, items, notes)
        if out is None:
            return 0
        show = _Shown(console, sum(1 for _ in items))
        with show:
            summary = prepare(
                found, items, out, settings, local=local, workers=workers, address=address, notes=notes, progress=show
            )
    except (DatasetError, PrepareError, ModelFileError) as error:
        raise UsageError(str(error)) from None
    _tell_summary(console, summary, out)
    return 3 if summary.failures else 0


def _settings(options: dict[str, Any]) -> Any:
    from train.prepare.settings import PrepareSettings

    given = {name: value for name, value in options.items() if value is not None}
    if isinstance(given.get("runs"), str):
        number, _, length = given["runs"].partition("x")
        if not (number.isdigit() and length.isdigit()):
            raise UsageError(f"--runs {given['runs']}: write number x length, for example 4x30")
        given["runs"] = (int(number), int(length))
    model = given.get("landmark_model")
    if isinstance(model, Path) and not model.is_file():
        raise UsageError(f"--landmark-model {model}: no such file")
    try:
        return PrepareSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"--{str(part).replace('_', '-')} " for part in first["loc"][:1])
        raise UsageError(f"{where}{str(first['msg']).removeprefix('Value error, ')}") from None


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()] if text else []


def _tell_index(console: Console, found: Any, items: Any, notes: list[str]) -> None:
    from preprocessing.datasets import DatasetIndex, find_layout

    title = find_layout(found.layout).title
    console.print(f"{found.root}: {title}, {len(found.items)} items, {len(items)} chosen", markup=False)
    for name, count in DatasetIndex(found.layout, found.root, tuple(items)).counts().items():
        console.print(f"  {count:>7}  {name}", markup=False)
    for note in notes:
        console.print(f"  note: {note}", markup=False)


class _Shown:
    """The progress as a bar on a terminal, else as a line now and then."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._faces = self._failed = 0
        self._began = self._last = time.monotonic()
        columns = (
            BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )  # fmt: skip
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("starting", total=total, rate="")

    def __enter__(self) -> _Shown:
        self._bar.__enter__()
        return self

    def __exit__(self, *given: Any) -> None:
        self._bar.__exit__(*given)

    def __call__(self, done: int, total: int, outcome: Any) -> None:
        self._faces += outcome.samples
        self._failed += outcome.status == "failed"
        now = time.monotonic()
        rate = 60 * done / max(now - self._began, 1e-3)
        told = f"{self._faces} faces" + (f", {self._failed} failed" if self._failed else "")
        self._bar.update(self._task, total=total, completed=done, description=told, rate=f"{rate:.1f}/min")
        if not self._console.is_terminal and now - self._last >= TELL_EVERY_S:
            self._last = now
            left = (total - done) / max(rate, 1e-9)
            self._console.print(
                f"{done}/{total} videos, {rate:.1f} a minute, {left:.0f} min left, {told}", markup=False
            )


def _tell_summary(console: Console, summary: Any, out: str) -> None:
    told = ", ".join(f"{count} {name}" for name, count in summary.outcomes.items()) or "nothing"
    rate = f", {summary.videos_per_minute} videos a minute" if summary.videos_per_minute else ""
    before = f" ({summary.already} were finished before)" if summary.already else ""
    console.print(f"{summary.videos} videos: {told}{before}{rate}", markup=False)
    for name, count in summary.samples.items():
        console.print(f"  {count:>7} faces  {name}", markup=False)
    for code, count in summary.failures.items():
        console.print(f"  {count:>7} failed  {code}", markup=False)
    if summary.failures:
        console.print(f"each failure with its reason: {out.rstrip('/')}/failures.jsonl", markup=False)
    sys.stderr.flush()
