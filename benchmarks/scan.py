"""`unmask scan` as a user runs it: a cold start on one image, and memory against the length of a video.

    python -m benchmarks.scan [--minutes 10]

Memory is the largest proportional set size of the whole process tree. The long video is ten seconds of the moving
portrait at 1280 x 720, repeated without encoding it anew; its analysis takes about as long as the video on two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.media import lengthen, moving_720p
from benchmarks.yardstick import REFERENCE_MS, yardstick_ms
from preprocessing.samples import write_video

IMAGE = Path(__file__).resolve().parents[1] / "ui" / "samples" / "astronaut-real.jpg"
REPEATS = 3
SECONDS = 10
LIMIT_S = 6.0
LIMIT_MB = 150.0


def scan(path: Path) -> tuple[float, float]:
    """Seconds and peak megabytes of `unmask scan` of a file, as a process of its own."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "ui.cli", "scan", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peak = 0.0
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(process.pid)
            peak = max(peak, sum(_pss_mb(one) for one in [root, *root.children(recursive=True)]))
        time.sleep(0.1)
    if process.returncode:
        raise RuntimeError(f"unmask scan {path.name} ended with status {process.returncode}")
    return time.perf_counter() - start, peak


def _pss_mb(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        return float(process.memory_full_info().pss) / 2**20
    return 0.0


def run(minutes: float = 2) -> list[dict[str, Any]]:
    """Rows for `unmask bench`; with the default two minutes of video it takes about four."""
    yardstick = yardstick_ms()
    images = [scan(IMAGE) for _ in range(REPEATS)]
    with tempfile.TemporaryDirectory() as folder:
        short = write_video(Path(folder) / "short.mp4", moving_720p(SECONDS))
        long = lengthen(short, Path(folder) / "long.mp4", round(minutes * 60 / SECONDS))
        seconds, peak = scan(long)
    wall, memory = [s for s, _ in images], [mb for _, mb in images]
    limit = LIMIT_S * yardstick / REFERENCE_MS
    return [
        {
            "bench": "scan", "metric": "one image, cold", "value": round(statistics.median(wall), 2), "unit": "s",
            "baseline": f"limit of {LIMIT_S:g} s, scaled by the yardstick of {yardstick:.1f} ms",
            "ratio": round(statistics.median(wall) / limit, 2), "n": REPEATS, "spread": round(max(wall) - min(wall), 2),
        },
        {
            "bench": "scan", "metric": "one image, peak memory", "value": round(statistics.median(memory)),
            "unit": "MB", "n": REPEATS, "spread": round(max(memory) - min(memory)),
        },
        {
            "bench": "scan", "metric": f"{minutes:g} min of 720p, memory over one image",
            "value": round(peak - statistics.median(memory)), "unit": "MB", "baseline": f"limit of {LIMIT_MB:g} MB",
            "ratio": round((peak - statistics.median(memory)) / LIMIT_MB, 2), "n": 1, "spread": None,
        },
        {
            "bench": "scan", "metric": f"{minutes:g} min of 720p, time over duration",
            "value": round(seconds / (minutes * 60), 2), "unit": "", "n": 1, "spread": None,
        },
    ]  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2)
    for row in run(parser.parse_args().minutes):
        print(json.dumps(row))
