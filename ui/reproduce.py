"""`unmask reproduce`: published tables run again; ours beside theirs, or "not reproduced" and why."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from ui.errors import UsageError


def run(
    name: str | None,
    data: Sequence[Path],
    weights: Path | None,
    json_to: str | None,
    report: Path | None,
    save: Path | None,
    limit: int | None,
    overrides: Sequence[str],
) -> bool:
    """Run the protocol `name` and print its sheet, or list all without one; whether every figure could be measured.

    Raises UsageError.
    """
    from train.reproduce import ReproduceError, reproduce
    from train.reproduce.run import Choice
    from train.reproduce.text import html

    if name is None:
        if data or weights or report or save:
            raise UsageError("name the protocol that --data is for; without a name they are listed")
        _list(json_to)
        return True
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("")

        def told(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        try:
            choice = Choice(tuple(data), weights, save, limit, tuple(overrides), told=told)
            sheet = reproduce(name, choice, _command(name, data, weights, limit, overrides))
        except ReproduceError as error:
            raise UsageError(str(error)) from None
        except OSError as error:
            if save is None or error.filename is None:
                raise
            raise UsageError(f"--save: {error.filename} cannot be written: {error.strerror}") from None
    content = json.dumps(sheet.as_dict(), indent=1) + "\n"
    if json_to and json_to != "-":
        _write(Path(json_to), content)
    if report:
        _write(report, html(sheet))
    if json_to == "-":
        sys.stdout.write(content)
    else:
        _print(sheet)
    return all(line.ours is not None for line in sheet.lines)


def _command(name: str, data: Sequence[Path], weights: Path | None, limit: int | None, overrides: Sequence[str]) -> str:
    """Without the folders above those that were given: a sheet is passed on."""
    words = ["unmask reproduce", name, *(f"--data {path.name}" for path in data)]
    words += [f"--weights {weights.name}"] if weights else []
    words += [f"--limit {limit}"] if limit else []
    return " ".join([*words, *(f"--set {override}" for override in overrides)])


def _write(path: Path, content: str) -> None:
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def _list(json_to: str | None) -> None:
    from train.reproduce import protocols

    if json_to:
        content = json.dumps([one.model_dump(mode="json") for one in protocols()], indent=1) + "\n"
        sys.stdout.write(content) if json_to == "-" else _write(Path(json_to), content)
        return
    table = Table("protocol", "table", "needs", "weights", title="unmask reproduce NAME --data ROOT", show_lines=True)
    for one in protocols():
        table.add_row(one.name, Text(one.table), Text(one.needs), Text(one.weights))
    _console().print(table)


def _print(sheet: object) -> None:
    from train.reproduce import Sheet
    from train.reproduce.text import shown

    assert isinstance(sheet, Sheet)
    table = Table(title=f"{sheet.paper}; {sheet.table}", title_justify="left")
    for column in ("", "figure", "published", "ours (95 %)", "n", "found", ""):
        table.add_column(column, justify="right" if column in ("published", "n") else "left")
    for line in sheet.lines:
        value, n = shown(line)
        published = "–" if line.published is None else f"{line.published:.4g}"
        outcome = Text(line.outcome, "green" if line.reproduced else "yellow") + (f": {line.why}" if line.why else "")
        table.add_row(Text(line.row), line.figure, published, value, n, Text(line.found), outcome)
    console = _console()
    console.print(table)
    if sheet.weights:
        console.print(f"weights: {sheet.weights}", markup=False)
    for note in sheet.notes:
        console.print(f"- {note}", markup=False)


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)
