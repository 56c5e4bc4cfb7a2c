"""What safe decoding costs: time a frame against PyAV in the same process, start-up, and memory against video length.

    python -m benchmarks.media

The clip is made here: 1280x720 H.264, textured pictures in motion, 30 frames a second.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from preprocessing.media import open_media, probe
from preprocessing.media.process import starter
from preprocessing.samples import moving_portrait
from preprocessing.types import Image

REPEATS = 3
PICTURES = 15
FPS = 30
THREADS = 2
PORTRAIT = Path(__file__).resolve().parents[1] / "ui" / "samples" / "astronaut-real.jpg"


def make_clip(path: Path, seconds: int = 10) -> Path:
    """A texture that moves and flickers, with grain: a few megabits a second, as phones and sites write."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, (24, 42, 3)).repeat(32, 0).repeat(32, 1)[:768, :1344]
    grain = rng.normal(0, 6, (768, 1344, 1))
    texture = (coarse + grain).clip(0, 255).astype(np.uint8)
    with av.open(str(path), "w") as out:
        track = out.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "23"})
        track.width, track.height, track.pix_fmt, track.gop_size = 1280, 720, "yuv420p", FPS
        for i in range(seconds * FPS):
            x, y = round(32 + 30 * np.sin(i / 9)), round(24 + 22 * np.cos(i / 13))
            image = np.ascontiguousarray(texture[y : y + 720, x : x + 1280])
            out.mux(track.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(track.encode(None))
    return path


def moving_720p(seconds: int, fps: int = 25) -> Iterator[Image]:
    """The moving portrait in the middle of a 1280 x 720 picture, its face about 160 pixels wide."""
    for image in moving_portrait(seconds * fps):
        large = cv2.resize(image, (720, 720), interpolation=cv2.INTER_CUBIC)
        yield np.pad(large, ((0, 0), (280, 280), (0, 0)), mode="reflect")


def lengthen(clip: Path, path: Path, times: int) -> Path:
    """The clip again and again, without encoding it anew."""
    with av.open(str(clip)) as source, av.open(str(path), "w") as out:
        stream = source.streams.video[0]
        track = out.add_stream_from_template(stream)
        length = stream.duration
        for turn in range(times):
            source.seek(0)
            for packet in source.demux(stream):
                if packet.size and packet.pts is not None and packet.dts is not None:
                    packet.pts, packet.dts = packet.pts + turn * length, packet.dts + turn * length
                    packet.stream = track
                    out.mux(packet)
    return path


def _bare(path: Path) -> int:
    count = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "AUTO", THREADS
        for frame in container.decode(stream):
            frame.to_ndarray(format="rgb24")
            count += 1
    return count


def _safe(path: Path) -> int:
    with open_media(path, threads=THREADS) as media:
        return sum(1 for _ in media)


def _cpu() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _timed(action: Callable[[], int]) -> tuple[float, float]:
    """Wall and CPU milliseconds for each unit that `action` counts."""
    wall, cpu = time.perf_counter(), _cpu()
    count = action()
    return 1e3 * (time.perf_counter() - wall) / count, 1e3 * (_cpu() - cpu) / count


def _pss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError("the kernel gives no proportional set size")


def _peak_pss_mb(path: Path) -> tuple[float, int]:
    """Largest proportional set size of this process and its decoder over all frames, and the number of frames."""
    peak, count = 0.0, 0
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    with open_media(path, threads=THREADS) as media:
        for frame in media:
            count += 1
            if frame.index % FPS == 0:
                pids = [os.getpid(), *map(int, children.read_text().split())]
                peak = max(peak, sum(_pss_mb(pid) for pid in pids))
    return peak, count


def _opened() -> tuple[list[float], list[float]]:
    """Wall milliseconds of opening and decoding the bundled portrait: forked by a nursery, and by a process of its own,
    by turns."""
    forked, started = [], []
    for turn in range(PICTURES + 1):
        starter.keep_nursery()
        _safe(PORTRAIT)  # the nursery is there
        again = _timed(lambda: _safe(PORTRAIT))[0]
        starter.close()
        alone = _timed(lambda: _safe(PORTRAIT))[0]
        if turn:
            forked.append(again)
            started.append(alone)
    return forked, started


def _row(metric: str, unit: str, values: list[float], baseline: list[float] | None = None) -> dict[str, Any]:
    """`value` is the median, `spread` the range; `baseline` the median of what was timed beside it."""
    row: dict[str, Any] = {
        "bench": "media",
        "metric": metric,
        "value": round(statistics.median(values), 3),
        "unit": unit,
    }
    if baseline:
        row["baseline"] = round(statistics.median(baseline), 3)
        row["ratio"] = round(statistics.median(a / b for a, b in zip(values, baseline, strict=True)), 3)
    return row | {"n": len(values), "spread": round(max(values) - min(values), 3)}


def run() -> list[dict[str, Any]]:
    """Measures everything; about a minute and a half on two cores. Rows as `unmask bench --json` writes them."""
    with tempfile.TemporaryDirectory() as folder:
        short = make_clip(Path(folder) / "short.mp4")
        long = lengthen(short, Path(folder) / "long.mp4", 18)
        middle = lengthen(short, Path(folder) / "middle.mp4", 4)
        _bare(middle)  # warms the file cache
        pairs = [(_timed(lambda: _safe(middle)), _timed(lambda: _bare(middle))) for _ in range(REPEATS)]
        starts = [_timed(lambda: bool(probe(short)))[0] for _ in range(REPEATS)]
        pictures = _opened()
        short_peak, _ = _peak_pss_mb(short)
        long_peak, frames = _peak_pss_mb(long)
    if frames != 180 * FPS:
        raise RuntimeError(f"the long clip gave {frames} frames in place of {180 * FPS}")
    wall, cpu = ([[pair[i][j] for pair in pairs] for i in range(2)] for j in range(2))
    return [
        _row("720p decode of 40 s, start included, wall, against PyAV in process", "ms/frame", *wall),
        _row("720p decode of 40 s, start included, CPU of both processes, against PyAV in process", "ms/frame", *cpu),
        _row("a picture of 448 px opened and decoded, forked, against a process of its own", "ms", *pictures),
        _row("probe of a 720p video, start of the process included", "ms", starts),
        _row("peak PSS of both processes, 10 s of 720p", "MB", [short_peak]),
        _row("growth of that peak with 3 min of 720p", "MB", [long_peak - short_peak]),
    ]


def main() -> None:
    """Prints one row a line."""
    for row in run():
        print(json.dumps(row))


if __name__ == "__main__":
    main()
