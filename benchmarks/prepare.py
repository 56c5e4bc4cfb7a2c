"""Videos prepared a minute: in one process, and on Ray with one and two workers.

    python -m benchmarks.prepare [--videos 12]

The videos are 720p H.264 clips of 120 frames with one face, 32 frames of each are kept. A run's figure is over all of
it, start of the workers included; "steady" is without the time until each worker has made its first.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.tracking import clip
from benchmarks.yardstick import yardstick_ms
from preprocessing.samples import write_video
from train.prepare import PrepareSettings
from train.prepare.run import Outcome, index, prepare

FRAMES = 120
VIDEOS = 12


def _row(metric: str, value: float, unit: str, n: int, **more: Any) -> dict[str, Any]:
    return {"bench": "prepare", "metric": metric, "value": round(value, 3), "unit": unit, "n": n, **more}


def _measure(root: Path, out: Path, local: bool, workers: int | None) -> tuple[float, float, float, int]:
    """Seconds until the first video, until the last, videos a minute in between, and videos."""
    settings = PrepareSettings()
    found, _ = index("plain", str(root), settings)
    began = time.perf_counter()
    ends: list[float] = []

    def told(done: int, total: int, outcome: Outcome) -> None:
        if outcome.status != "done" or outcome.samples != settings.count:
            raise RuntimeError(f"{outcome.path}: {outcome.status}, {outcome.samples} samples {outcome.reason}")
        ends.append(time.perf_counter() - began)

    prepare(found, found.items, str(out), settings, local=local, workers=workers, shard_videos=1, progress=told)
    # The steady state begins when every worker has made its first video.
    busy = workers or 1
    steady = 60 * (len(ends) - busy) / max(ends[-1] - ends[busy - 1], 1e-9)
    return ends[0], ends[-1], steady, len(ends)


def run(videos: int = VIDEOS) -> list[dict[str, Any]]:
    """Rows: videos a minute of each way, and two workers over one."""
    rows = [_row("yardstick", yardstick_ms(), "ms", 15)]
    with tempfile.TemporaryDirectory(prefix="unmask-bench-") as folder:
        root = Path(folder) / "videos"
        (root / "real").mkdir(parents=True)
        first = write_video(root / "real" / "000.mp4", (frame.image for frame in clip(FRAMES)))
        for number in range(1, videos):
            (root / "real" / f"{number:03d}.mp4").write_bytes(first.read_bytes())
        ways: tuple[tuple[str, bool, int | None], ...] = (
            ("one process", True, None),
            ("Ray, 1 worker", False, 1),
            ("Ray, 2 workers", False, 2),
        )
        whole, steady = {}, {}
        for name, local, workers in ways:
            start, end, steady[name], n = _measure(root, Path(folder) / name.replace(" ", "-"), local, workers)
            whole[name] = 60 * n / end
            rows.append(_row(f"{name}: until the first video", start, "s", n))
            rows.append(_row(name, whole[name], "videos/min", n))
            rows.append(_row(f"{name}, steady", steady[name], "videos/min", n))
        one, two = steady["Ray, 1 worker"], steady["Ray, 2 workers"]
        rows.append(_row("two workers over one, steady", two, "videos/min", videos, baseline=round(one, 3)))
        rows[-1]["ratio"] = round(two / one, 3)
    return rows


def main() -> None:
    """Prints the rows as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=VIDEOS, help=f"at least 4 (default {VIDEOS})")
    for row in run(parser.parse_args().videos):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
