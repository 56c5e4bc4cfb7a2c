"""How long a command takes until it says something, cold: `unmask --help`, and `unmask scan` of one image.

    python -m benchmarks.startup

Each time a process of its own; the files that it reads are in the system's cache. Beside them what the imports cost.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.yardstick import scaled, yardstick_ms

IMAGE = Path(__file__).resolve().parents[1] / "ui" / "samples" / "astronaut-real.jpg"
REPEATS = 7
HELP_S, SCAN_S = 0.4, 4.0


def seconds(arguments: list[str], repeats: int = REPEATS) -> list[float]:
    """Wall time of a Python process with these arguments, after one that is not counted. Raises RuntimeError."""
    found = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
        found.append(time.perf_counter() - began)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr[-400:]}")
    return found[1:]


def _row(metric: str, values: list[float], limit: float | None = None) -> dict[str, Any]:
    middle = statistics.median(values)
    row: dict[str, Any] = {"bench": "startup", "metric": metric, "value": round(middle, 2), "unit": "s"}
    if limit is not None:
        row |= {"baseline": round(limit, 2), "ratio": round(middle / limit, 2)}
    return row | {"n": len(values), "spread": round(max(values) - min(values), 2)}


def run() -> list[dict[str, Any]]:
    """Rows for `unmask bench`; limits are scaled by the yardstick."""
    yardstick = yardstick_ms()
    told = seconds(["-m", "ui.cli", "--help"])
    scanned = seconds(["-m", "ui.cli", "scan", str(IMAGE)])
    return [
        _row("unmask --help", told, scaled(HELP_S, yardstick)),
        _row("unmask scan of one image", scanned, scaled(SCAN_S, yardstick)),
        _row("python itself", seconds(["-c", "pass"])),
        _row("import torch", seconds(["-c", "import torch"])),
    ]


if __name__ == "__main__":
    for row in run():
        print(json.dumps(row))
