"""Training on this machine: samples a second of every recipe, what a second worker adds, what Ray costs a step.

    python -m benchmarks.train [--what scaling,overhead,gpu] [--recipes NAME,...] [--json FILE]

Each run trains for real on Ray Train, on faces, clips and landmarks made from the portrait that scikit-image ships;
pseudo-fakes are made on the way, by the worker itself. Compact recipes and LRNet keep their batch. Other paper ones,
made for GPUs, take PAPER_BATCH, and what they freeze for some epochs learns from the start. A figure is the median of
an epoch's steps, as metrics.jsonl has it. One worker has one core, two have two, with all of Ray's own processes on the
same ones; needs a quiet machine. `gpu` is another measurement, which is asked for by name: benchmarks/train_gpu.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PEOPLE, CLIPS, VIEWS = 220, 16, 8
EPOCHS, STEPS = 4, 3
"""Of each run of a compact recipe; the first epoch is not counted."""
PAPER_EPOCHS, PAPER_STEPS = 3, 1
PAPER_BATCH = 1
"""Pairs, for each worker."""
OVERHEAD_OF = ("mesonet-compact", "frame_cnn-compact")
"""Where Ray's cost is measured: the fastest step of pictures, which shows it most, and an ordinary one."""
ROUNDS, OVERHEAD_EPOCHS, OVERHEAD_STEPS = 4, 4, 5
TARGET_OVERHEAD = 0.03
TARGET_EFFICIENCY = 0.85


@dataclass(frozen=True)
class Case:
    """A recipe as it is measured: `batch` pairs by one worker, on `data`."""

    name: str
    batch: int
    data: Path
    settings: tuple[str, ...]
    epochs: int
    steps: int

    def __str__(self) -> str:
        return f"{self.name} of {self.batch} pairs"

    def overrides(self, batch: int) -> list[str]:
        """For so many steps of `batch` pairs an epoch."""
        items = self.steps * batch
        sizes = {
            "faces.npz": f"data.settings.per_dataset={max(items, 2)}",  # a blend of two people needs two
            "clips.npz": f"data.settings.windows={-(-items // (CLIPS // 2))}",
            "sequences": f"data.settings.windows={-(-items // (VIEWS * 3 // 4))}",
        }
        given = [f"epochs={self.epochs}", f"batch={batch}", "workers=0", "threads=1", *self.settings]
        return [*given, sizes[self.data.name]]


def _data(folder: Path) -> None:
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "e2e")]
    from landmark_sequences import write_sequences
    from training_media import make_clip_pack, make_pack

    make_pack(folder / "faces.npz", PEOPLE)
    make_clip_pack(folder / "clips.npz", CLIPS, frames=40)
    write_sequences(folder / "sequences", VIEWS)


def _case(name: str, folder: Path) -> Case:
    from train.recipe import load_recipe

    recipe = load_recipe(name)
    kind, paper = recipe.data.kind, recipe.profile == "paper"
    settings = []
    if kind == "clips":
        settings += ["data.settings.held_out=0.5", f"data.settings.faces={folder / 'faces.npz'}"]
    if kind != "landmark_dataset":
        settings.append(f"data.settings.validation_items={2 if paper or kind == 'clips' else 8}")
    if recipe.data.settings.get("own_fakes"):
        settings += ["data.settings.own_fakes=0"]
    if paper:
        settings += ["accumulate=1", *(["freeze=[]"] if any(rule.epochs for rule in recipe.freeze) else [])]
    data = {"clips": "clips.npz", "landmark_dataset": "sequences"}.get(kind, "faces.npz")
    batch = PAPER_BATCH if paper and kind != "landmark_dataset" else recipe.batch
    epochs, steps = (PAPER_EPOCHS, PAPER_STEPS) if paper else (EPOCHS, STEPS)
    return Case(name, batch, folder / data, tuple(settings), epochs, steps)


@contextlib.contextmanager
def _ray(log: Path, cores: int) -> Iterator[str]:
    """A Ray of our own on so many cores, this process with it; its address."""
    from ray_head import running_head

    there = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(there)[:cores])
    try:
        with running_head(log, cpus=2) as head:
            os.environ.update({name: value for name, value in head.client.items() if name != "RAY_ADDRESS"})
            yield head.address
    finally:
        os.sched_setaffinity(0, there)


def _train(case: Case, batch: int, workers: int, address: str, out: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl of all epochs but the first."""
    from train.__main__ import run
    from train.distributed import Workers

    with Path(os.devnull).open("w") as quiet, contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        many = Workers(workers, workers, address=address, max_failures=0)
        run(case.name, data=case.data, out=out, overrides=case.overrides(batch), workers=many)
    return _lines(out, case.epochs)


def _lines(run: Path, epochs: int) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    if len(lines) != epochs:
        raise RuntimeError(f"{run}: {len(lines)} epochs, not {epochs}")
    return lines[1:]


def _row(metric: str, values: Sequence[float], unit: str, **more: Any) -> dict[str, Any]:
    figures = {"n": len(values), "spread": round(max(values) - min(values), 3)}
    return (
        {"bench": "train", "metric": metric, "value": round(statistics.median(values), 3), "unit": unit}
        | more
        | figures
    )


def _scaling(cases: Sequence[Case], folder: Path, known: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """Rows of one worker on a core, then of two on two; not those that are known."""
    alone = {case: 2 * case.batch / known[f"{case}, 1 worker"] for case in cases if f"{case}, 1 worker" in known}
    with _ray(folder / "one.log", 1) as address:
        for case in cases:
            if case in alone:
                continue
            lines = _train(case, case.batch, 1, address, folder / f"{case.name}-one")
            steps = [line["step_seconds"] for line in lines]
            alone[case] = statistics.median(steps)
            yield _row(f"{case}, 1 worker", [2 * case.batch / seconds for seconds in steps], "samples/s")
            yield _row(f"{case}, 1 worker: making its data", [line["wait"] for line in lines], "of the time")
    with _ray(folder / "two.log", 2) as address:
        for case in cases:
            ways = [("for each of", 1), ("shared by", 2)]
            for way, shares in ways[:1] if case.name.endswith("-paper") else ways:
                metric = f"{case}, {way} 2 workers: efficiency"
                if metric in known:
                    continue
                lines = _train(case, case.batch * 2 // shares, 2, address, folder / f"{case.name}-{shares}")
                # Of a step that leaves each worker one of `shares` parts of what one had alone.
                found = [alone[case] / (shares * line["step_seconds"]) for line in lines]
                yield _row(metric, found, "of 1", baseline=TARGET_EFFICIENCY)


def _overhead(case: Case, folder: Path) -> dict[str, Any]:
    """A step's time by one worker of Ray over one of the plain loop, in pairs of runs, each a process of its own."""
    case = replace(case, epochs=OVERHEAD_EPOCHS, steps=OVERHEAD_STEPS)
    command = [sys.executable, "-m", "train", case.name, "--data", str(case.data), *case.overrides(case.batch)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}

    def step(number: int, *options: str) -> float:
        out = folder / f"{case.name}-{number}{options[0]}"
        words = [*command, *options, "--out", str(out)]
        subprocess.run(words, cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
        return statistics.median(line["step_seconds"] for line in _lines(out, case.epochs))

    over = []
    for number in range(ROUNDS):
        runs = [("--local",), ("--workers", "1")]
        times = {options[0]: step(number, *options) for options in (runs if number % 2 else runs[::-1])}
        over.append(times["--workers"] / times["--local"] - 1)
    return _row(f"{case.name}: Ray on top of the plain loop", over, "of a step", baseline=TARGET_OVERHEAD)


def measured(
    recipes: Sequence[str], what: Sequence[str], known: Mapping[str, float] | None = None
) -> Iterator[dict[str, Any]]:
    """Rows as they come, of all recipes or of these; of scaling not those whose value is known."""
    from benchmarks import train_gpu
    from train.recipe import RECIPES, load_recipe

    asked = list(what)
    if "gpu" in asked and not train_gpu.there():
        yield train_gpu.MISSING
        asked.remove("gpu")
    if not asked:
        return
    every = sorted(path.stem for path in RECIPES.glob("*.yaml") if not path.stem.startswith("trunk"))
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        _data(folder)
        cases = [_case(name, folder) for name in recipes or every]
        if "scaling" in asked:
            yield from _scaling(cases, folder, known or {})
        if "overhead" in asked:  # without that Ray, whose own processes would take some of the plain loop's time too
            yield from (_overhead(case, folder) for case in cases if case.name in OVERHEAD_OF)
        if "gpu" in asked:
            own = [(case.name, case.data, case.overrides(load_recipe(case.name).batch)) for case in cases]
            yield from train_gpu.measured(own)


def run() -> list[dict[str, Any]]:
    """Rows for `unmask bench train`."""
    return list(measured((), ("scaling", "overhead")))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train")
    parser.add_argument("--recipes", default="", metavar="NAME,...", help="of train/recipes; default: all")
    parser.add_argument(
        "--what", default="scaling,overhead", metavar="A,B", help="scaling, overhead, gpu; default: two"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="the rows; a figure of scaling that it has is not measured again"
    )
    given = parser.parse_args()
    rows = json.loads(given.json.read_text()) if given.json and given.json.exists() else []
    known = {row["metric"]: row["value"] for row in rows}
    for row in measured([name for name in given.recipes.split(",") if name], given.what.split(","), known):
        print(row, flush=True)
        rows.append(row)
        if given.json:
            given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
