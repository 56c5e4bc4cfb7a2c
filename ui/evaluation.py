"""`unmask evaluate`: labelled media through the shipped pipeline, figures in a table and as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ui.errors import UsageError
from ui.scan import load_settings

FIGURES = ("auc", "ap", "eer", "accuracy")


def run(
    data: Path,
    detectors: str | None,
    config: Path | None,
    json_to: str | None,
    *,
    split: str | None = None,
    kind: str | None = None,
    sha_prefix: str | None = None,
    without: str | None = None,
) -> None:
    """Evaluate and print; the last four choose rows, as in `train.evaluate.read_items`. Raises UsageError."""
    settings = load_settings(config, detectors)
    from detectors.local import LocalStages
    from detectors.pipeline import choose
    from train.evaluate import Item, evaluate, read_items, write

    if not data.exists():
        raise UsageError(f"--data {data}: no such file or folder")
    try:
        left_out = without.split(",") if without else []
        items = read_items(data, split=split, kind=kind, sha_prefix=sha_prefix, without=left_out)
        stages = LocalStages()
        choose(stages.infos(), settings.detectors)
    except ValueError as error:
        raise UsageError(str(error)) from None
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=len(items))

        def show(done: int, item: Item) -> None:
            bar.update(task, completed=done, description=f"{done}/{len(items)}")

        found = evaluate(items, stages, settings, show)
    if json_to and json_to != "-":
        write(found, Path(json_to))
    if json_to == "-":
        json.dump(found, sys.stdout, indent=1)
        print()
    else:
        Console(highlight=False).print(_table(found))


def _table(found: dict[str, Any]) -> Table:
    coverage = found["coverage"]["value"]
    table = Table(title=f"{found['items']} items, {coverage:.0%} of them with a score", title_justify="left")
    table.add_column("")
    for figure in FIGURES:
        table.add_column(figure, justify="right")
    groups = {"all": found["overall"], **found["by_dataset"], **found["by_method"], **found["by_detector"]}
    for name, figures in groups.items():
        table.add_row(name, *(_estimate(figures.get(figure)) for figure in FIGURES))
    return table


def _estimate(estimate: dict[str, Any] | None) -> str:
    if not estimate or estimate.get("value") is None:
        return "–"
    low, high = estimate.get("low"), estimate.get("high")
    interval = f" ({low:.2f} to {high:.2f})" if low is not None and high is not None else ""
    return f"{estimate['value']:.3f}{interval}"
