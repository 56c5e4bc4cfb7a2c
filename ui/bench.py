"""`unmask bench`: runs benchmarks/*.py and collects their rows with what machine they were measured on."""

from __future__ import annotations

import difflib
import importlib
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ui.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]


def names() -> list[str]:
    """The benchmarks of this checkout: modules of benchmarks/ that have a `run`."""
    folder = ROOT / "benchmarks"
    found = [p.stem for p in folder.glob("*.py") if not p.stem.startswith("_") and "\ndef run(" in p.read_text("utf-8")]
    if not found:
        raise UsageError("the benchmarks are not here", "they are part of the source checkout, not of an installation")
    return sorted(found)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    from importlib.metadata import version

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        cpu = next((line.split(":")[1].strip() for line in info.open() if line.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(memory / 1024**3, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {n: version(n) for n in ("torch", "numpy", "opencv-python-headless", "av", "dlib-bin")},
    }


def run(name: str | None, json_to: str | None) -> None:
    """Measure one benchmark or all; the rows as a table, or as JSON {machine, results}."""
    there = names()
    if name is not None and name not in there:
        near = difflib.get_close_matches(name, there, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(there)}"
        raise UsageError(f"no benchmark is called {name!r}", hint)
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    rows: list[dict[str, Any]] = []
    for one in [name] if name else there:
        print(f"measuring {one} ...", file=sys.stderr)
        rows += importlib.import_module(f"benchmarks.{one}").run()
    document = {"machine": machine(), "results": rows}
    if json_to and json_to != "-":
        Path(json_to).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if json_to == "-":
        print(json.dumps(document, indent=1))
    else:
        Console(highlight=False).print(_table(rows))


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("Bench", "Figure", "Value", "Unit", "Baseline", "Ratio", "n", "Spread"):
        table.add_column(column, justify="left" if column in ("Bench", "Figure", "Unit") else "right")
    for row in rows:
        keys = ("bench", "metric", "value", "unit", "baseline", "ratio", "n", "spread")
        table.add_row(*("" if row.get(key) is None else str(row[key]) for key in keys))
    return table
