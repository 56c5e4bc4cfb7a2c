"""What more of something costs: minutes of video, faces in a picture, detectors, uploads at once.

    python -m benchmarks.growth [--what minutes,faces,detectors,uploads] [--most 16] [--plot docs/images/growth.png]
    python -m benchmarks.growth --what minutes --most 64 --video 360,10

The first three in this process, on two cores; uploads through a graph of its own. Of each, the line that fits best (by
relative error) and how far the worst point lies above it: cost that grows faster than what is asked would show there.
Of minutes also what this process and its children hold at most, in MB: an hour is to need no more than a minute.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

from benchmarks.media import PORTRAIT, lengthen, moving_720p
from benchmarks.service import service
from detectors.local import LocalStages, analyse_file
from detectors.store import load_available
from preprocessing.inputs import LandmarkInput
from preprocessing.samples import write_video
from preprocessing.settings import Settings
from preprocessing.types import Image

MOST_MINUTES = 16
FACES = (1, 2, 4, 8, 16, 32, 50)
UPLOADS = (1, 2, 4, 8, 16, 32)
REPEATS = 3
PEAK_S = 0.5
"""Between two looks at the memory."""
COLUMNS, ROWS, CELL = 10, 5, 240
"""Of the picture that faces are put into; its size is the same for any number of them."""

Points = dict[int, list[float]]
"""Seconds, of each number of things."""


def doubled(most: int) -> list[int]:
    """1, 2, 4 ... up to `most`."""
    return [2**power for power in range(most.bit_length()) if 2**power <= most]


def crowd(count: int) -> np.ndarray:
    """A picture of `COLUMNS * CELL` by `ROWS * CELL` pixels with so many faces."""
    portrait = cv2.resize(cv2.imread(str(PORTRAIT)), (CELL, CELL), interpolation=cv2.INTER_AREA)
    picture = np.full((ROWS * CELL, COLUMNS * CELL, 3), 128, np.uint8)
    for place in range(count):
        row, column = divmod(place, COLUMNS)
        picture[row * CELL :, column * CELL :][:CELL, :CELL] = portrait
    return picture


def _timed(action: Callable[[], Any], repeats: int = REPEATS) -> list[float]:
    spent = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        spent.append(time.perf_counter() - began)
    return spent


@dataclass(frozen=True)
class Video:
    """Height in pixels, 16:9, and frames a second."""

    height: int = 720
    fps: int = 25

    @classmethod
    def of(cls, text: str) -> Video:
        """From "360,10"."""
        height, fps = map(int, text.split(","))
        return cls(height, fps)

    def frames(self) -> Iterator[Image]:
        """A minute of the moving portrait."""
        size = (self.height * 16 // 18 * 2, self.height)
        return (cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in moving_720p(60, self.fps))


def minutes(stages: LocalStages, folder: Path, most: int, video: Video) -> tuple[Points, Points]:
    """Longer and longer videos, each once, the landmarks of each frame for LRNet among it: seconds, and MB held."""
    clip = write_video(folder / "minute.mp4", video.frames(), fps=video.fps)
    found: Points = {}
    held: Points = {}
    for count in doubled(most):
        path = lengthen(clip, folder / f"{count}.mp4", count)
        with Peak() as peak:
            found[count] = _timed(partial(analyse_file, path, stages), 1)
        held[count] = [peak.mb]
        path.unlink()
    return found, held


class Peak(threading.Thread):
    """Looks, while it is entered, at what this process and its children hold: the largest proportional set size."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.mb, self._over = 0.0, threading.Event()

    def run(self) -> None:
        while not self._over.wait(PEAK_S):
            own = psutil.Process()
            held = 0.0
            for process in (own, *own.children(recursive=True)):
                with suppress(psutil.Error):
                    held += process.memory_full_info().pss / 2**20
            self.mb = max(self.mb, held)

    def __enter__(self) -> Peak:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def faces(stages: LocalStages, folder: Path) -> Points:
    """One picture of 2400 x 1200 pixels. Raises RuntimeError where not all faces are found."""
    found: Points = {}
    for count in FACES:
        path = folder / f"{count}-faces.png"
        cv2.imwrite(str(path), crowd(count))
        seen = len(analyse_file(path, stages).result.faces)
        if seen != count:
            raise RuntimeError(f"{seen} faces were found in a picture of {count}")
        found[count] = _timed(partial(analyse_file, path, stages))
    return found


def detectors(stages: LocalStages) -> Points:
    """The portrait, by more and more of the detectors of pictures that have weights."""
    names = [name for name, info in stages.infos().items() if not isinstance(info.input, LandmarkInput)]
    return {
        count: _timed(partial(analyse_file, PORTRAIT, stages, Settings(detectors=tuple(names[:count]))))
        for count in range(1, len(names) + 1)
    }


def uploads() -> Points:
    """The portrait so many times at once: seconds until the last answer. Raises RuntimeError where one is not done."""
    room = {"runner": {"slots": 4}, "gateway": {"max_uploads": max(UPLOADS)}}
    with service(room) as graph, ThreadPoolExecutor(max(UPLOADS)) as clients:

        def one(_: int) -> None:
            answer = graph.post()
            answer.raise_for_status()
            if graph.followed(answer.headers["location"])["status"] != "done":
                raise RuntimeError("an analysis failed")

        def at_once(count: int) -> None:
            list(clients.map(one, range(count)))

        at_once(1)
        return {count: _timed(partial(at_once, count)) for count in UPLOADS}


def line(points: Points) -> tuple[float, float, float]:
    """Of seconds = a + b count, both of them 0 at least, by least squares of the relative error: a, b, and how far the
    median of the worst count lies above it, as a share of it."""
    from scipy.optimize import nnls

    counts = np.array(sorted(points), float)
    seconds = np.array([statistics.median(points[int(count)]) for count in counts])
    (start, slope), _ = nnls(np.stack([1 / seconds, counts / seconds], 1), np.ones(len(counts)))
    return float(start), float(slope), float((seconds / (start + slope * counts) - 1).max())


def plot(measured: dict[str, Points], path: Path) -> None:
    """A picture for each: the medians and the line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(1, len(measured), figsize=(3.2 * len(measured), 3), layout="constrained")
    for axes, (name, points) in zip(np.atleast_1d(grid), measured.items(), strict=True):
        start, slope, _ = line(points)
        counts = sorted(points)
        axes.plot(counts, [start + slope * count for count in counts], color="#9aa5b1", label="line")
        axes.plot(counts, [statistics.median(points[n]) for n in counts], "o", color="#c4551b", label="measured")
        axes.set(xlabel=WORDS[name], ylabel="seconds", xlim=(0, None), ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


WORDS = {
    "minutes": "minutes of video",
    "faces": "faces in a picture",
    "detectors": "detectors of pictures",
    "uploads": "uploads at once",
}
MEMORY = "memory"
"""Points of it are MB by minutes of video."""


def rows(measured: dict[str, Points]) -> list[dict[str, Any]]:
    """For each: what one more costs in seconds, what is paid once beside it, and the worst point over the line."""
    found = []
    for name, points in measured.items():
        if name == MEMORY:
            found.append(_memory(points))
            continue
        start, slope, worst = line(points)
        metric = f"{WORDS[name]}, 1 to {max(points)}: one more"
        median = {str(n): round(statistics.median(points[n]), 2) for n in sorted(points)}
        found.append(
            {"bench": "growth", "metric": metric, "value": round(slope, 3), "unit": "s", "baseline": round(start, 2),
             "ratio": round(1 + worst, 2), "n": sum(map(len, points.values())), "seconds": median}
        )  # fmt: skip
    return found


def _memory(points: Points) -> dict[str, Any]:
    short, long = points[min(points)][0], points[max(points)][0]
    metric = f"memory with {max(points)} minutes of video, over {min(points)}"
    megabytes = {str(n): round(points[n][0]) for n in sorted(points)}
    return {"bench": "growth", "metric": metric, "value": round(long), "unit": "MB", "baseline": round(short),
            "ratio": round(long / short, 2), "n": 1, "mb": megabytes}  # fmt: skip


def measure(
    what: Sequence[str] = tuple(WORDS), most: int = MOST_MINUTES, video: Video = Video()
) -> Iterator[tuple[str, Points]]:
    """The points of each of `what`, as soon as they are there."""
    if set(what) - {"uploads"}:
        stages = LocalStages(load_available())
        analyse_file(PORTRAIT, stages)  # warm
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            of = {
                "faces": lambda: faces(stages, folder),
                "detectors": lambda: detectors(stages),
            }
            yield from ((one, of[one]()) for one in what if one in of)
            if "minutes" in what:
                spent, held = minutes(stages, folder, most, video)
                yield "minutes", spent
                yield MEMORY, held
    if "uploads" in what:
        yield "uploads", uploads()


def run() -> list[dict[str, Any]]:
    """Rows for `unmask bench`."""
    return rows(dict(measure()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", default=",".join(WORDS))
    parser.add_argument("--most", type=int, default=MOST_MINUTES, help="minutes of the longest video")
    parser.add_argument("--video", type=Video.of, default=Video(), metavar="HEIGHT,FPS", help="of minutes: 720,25")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    found: dict[str, Points] = {}
    for one, points in measure(args.what.split(","), args.most, args.video):
        found[one] = points
        print(json.dumps(rows({one: points})[0]), flush=True)
    if args.plot is not None:
        plot({name: points for name, points in found.items() if name != MEMORY}, args.plot)
