"""Robustness: each file perturbed into a new one, which is analysed like any other; figures by suite and step."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from detectors.local import LocalStages
from preprocessing.errors import MediaError
from preprocessing.media import open_media
from preprocessing.perturb import Step, describe, names, perturb_stream, suite
from preprocessing.settings import MediaLimits, Settings
from preprocessing.types import Frame, Image, MediaInfo
from train.delong import compare
from train.labelled import Item
from train.levels import FUSED, cluster, cut, examples
from train.measure import Row, RowStore, about, failed, measure_file
from train.metrics import proportion, summary

STAMP = Fraction(1, 90_000)
"""Seconds of one tick of the time stamps that are written: fine enough for any frame rate."""


def steps_of(wanted: Sequence[str]) -> dict[str, tuple[Step, ...]]:
    """The steps by suite; `all` is every perturbation, each its own suite. Raises PerturbationError for other names."""
    chosen = list(dict.fromkeys(name for one in wanted for name in (names() if one == "all" else (one,))))
    return {name: suite(name) for name in chosen}


def perturb_file(path: Path, step: Step, out: Path, *, seed: int, limits: MediaLimits) -> Path:
    """The file at `path`, perturbed, in the folder `out`: a PNG, or H.264 without loss in RGB with the frames' times.

    What its own coding did to the file stays beneath; its sound is dropped. Raises MediaError, and OSError where
    `out` is full.
    """
    with open_media(path, limits) as media:
        info = media.info
        # The content and the seed, not the name or the order, decide what a random perturbation draws.
        rng = np.random.default_rng([seed, int(info.sha256[:12], 16)])
        if info.kind == "image":
            image = next(iter(perturb_stream(*step, (frame.image for frame in media), rng, still=True)))
            target = out / "perturbed.png"
            done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            if not done:
                raise RuntimeError("the PNG encoder refused a perturbed picture")
            target.write_bytes(bytes(data))
            return target
        return _video(iter(media), info, step, rng, out / "perturbed.mp4")


def _video(frames: Iterator[Frame], info: MediaInfo, step: Step, rng: np.random.Generator, target: Path) -> Path:
    times: list[float] = []

    def pictures() -> Iterator[Image]:
        for frame in frames:
            times.append(frame.time)
            yield frame.image

    fps = info.fps or 25.0
    changed = perturb_stream(*step, pictures(), rng, fps=fps)
    first = next(changed)
    height, width = first.shape[:2]
    with av.open(str(target), "w") as container:
        options = {"qp": "0", "preset": "ultrafast"}
        stream = container.add_stream("libx264rgb", rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
        stream.codec_context.time_base = STAMP
        for index, image in enumerate(chain([first], changed)):
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture.pts, picture.time_base = round(times[index] / STAMP), STAMP
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return target


def measure_perturbed(
    item: Item, clean: Row, step: Step, stages: LocalStages, settings: Settings, store: RowStore | None, seed: int
) -> Row:
    """The row of an item after a step; `clean` is its row without. What failed clean fails again, with its reason."""
    if "error" in clean:
        return failed(item, clean["error"], clean["reason"])
    done_to_it = f"{step.name} {step.level} seed {seed}"
    digest = clean["sha256"]
    if store is not None and (kept := store.get(digest, done_to_it)) is not None:
        return about(item, digest) | kept
    with tempfile.TemporaryDirectory(prefix="unmask-") as folder:
        try:
            file = perturb_file(item.path, step, Path(folder), seed=seed, limits=settings.limits)
        except MediaError as error:
            return failed(item, error.code, error.reason)
        except OSError as error:
            return failed(item, "disk", f"the perturbed file cannot be written: {error.strerror or error}")
        except (ValueError, RuntimeError, av.FFmpegError) as error:
            return failed(item, "not_perturbed", f"{describe(*step)} could not be done: {error}")
        found = measure_file(file, digest, stages, settings, store, done_to_it)
    return about(item, digest) | found


def grid(
    suites: Mapping[str, Sequence[Step]],
    rows: Mapping[Step, Sequence[Row]],
    clean: Sequence[Row],
    detectors: Sequence[str],
    threshold: float,
) -> dict[str, dict[str, Any]]:
    """Figures by suite and step ("jpeg-4") at video level: coverage, the fused score's, each detector's, and the change
    of the AUC against the same files unperturbed, with DeLong's paired interval. Steps without a row are left out."""
    cells = {step: _cell(step, found, clean, detectors, threshold) for step, found in rows.items() if found}
    return {
        name: {f"{step.name}-{step.level}": cells[step] for step in steps if step in cells}
        for name, steps in suites.items()
    }


def _cell(
    step: Step, rows: Sequence[Row], clean: Sequence[Row], detectors: Sequence[str], threshold: float
) -> dict[str, Any]:
    def figures(name: str) -> dict[str, Any]:
        one = examples(rows, "video", name)
        found = summary(one.labels, one.scores, cut(name, threshold), one.clusters)
        return {figure: estimate.as_dict() for figure, estimate in found.items()}

    scored = sum(row["score"] is not None for row in rows)
    return {
        "description": describe(*step),
        "items": len(rows),
        "coverage": proportion(scored, len(rows)).as_dict(),
        "overall": figures(FUSED),
        "by_detector": {name: figures(name) for name in detectors},
        "change": {name: _change(rows, clean, name) for name in (FUSED, *detectors)},
    }


def _change(rows: Sequence[Row], clean: Sequence[Row], name: str) -> dict[str, Any] | None:
    """AUC perturbed minus AUC clean over the files that have a score in both; None where they are of one class."""
    before = {row["path"]: _score(row, name) for row in clean}
    both = [
        (row, after, start)
        for row in rows
        if (after := _score(row, name)) is not None and (start := before.get(row["path"])) is not None
    ]
    labels = [row["label"] for row, _, _ in both]
    if set(labels) != {0, 1}:
        return None
    clusters = [cluster(row) for row, _, _ in both]
    found = compare(labels, [after for _, after, _ in both], [start for _, _, start in both], clusters)
    return {
        "difference": round(found.difference, 6),
        "low": None if found.low is None else round(found.low, 6),
        "high": None if found.high is None else round(found.high, 6),
        "p": None if found.p is None else round(found.p, 6),
        "n": found.n,
    }


def _score(row: Row, name: str) -> float | None:
    value = row["score"] if name == FUSED else row["detectors"].get(name)
    return None if value is None else float(value)
