"""`python -m train RECIPE [--data DIR] [--out DIR] [--resume] [--dry-run] [--workers N] [--gpu] [key=value ...]`.

Alone in this process, or with any number of workers on Ray Train: with --workers, --gpu, --address or --storage-path,
and in a submitted job. docs/training.md tells how. `python -m train sweep RECIPE ...` tries many settings.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detectors.base import Detector
from train.checkpoint import FULL
from train.recipe import (
    DataSplits,
    Recipe,
    RecipeError,
    build_data,
    create_detector,
    data_settings,
    describe,
    load_backbone,
    load_recipe,
)

if TYPE_CHECKING:
    from train.distributed import Storage, Workers

RUNS = Path(".local/runs")
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets it for the entry point of a submitted job, which trains on the cluster it was submitted to."""


def run(
    recipe: str | Path,
    *,
    data: Path | None = None,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    dry_run: bool = False,
    device: str | None = None,
    workers: Workers | None = None,
    storage_path: str | None = None,
) -> Path | None:
    """Train from a recipe; returns the run folder (None for a dry run, or where it is not on this machine).

    The folder holds recipe.yaml, data.json, metrics.jsonl, last.pt, best.pt and tensorboard/. `data` is the folder that
    the recipe's data builder reads, `out` the run folder (default .local/runs/NAME). With `workers` Ray Train does it;
    the run is then kept in `storage_path`/NAME where one is given, an address of any file system that fsspec knows.

    Raises:
        RecipeError: what is wrong with recipe, overrides, data or folder.
    """
    resolved = load_recipe(recipe, overrides)
    data_settings(resolved)
    import torch

    from train.optim import check
    from train.ranks import training_batches
    from train.teacher import settled

    if workers is not None:
        from train.distributed import check_gpus

        check_gpus(workers)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RecipeError(f"device {device}: torch finds no GPU on this machine")
    torch.manual_seed(resolved.seed)
    detector = create_detector(resolved)
    check(detector, resolved)
    resolved = settled(resolved, detector)
    splits = build_data(resolved, detector, data)
    steps = -(-len(training_batches(resolved, splits.train)) // resolved.accumulate)
    parameters = sum(p.numel() for p in detector.parameters())
    where = _where(workers, device)
    print(f"{resolved.name}: {resolved.detector} ({resolved.profile}), {parameters:,} parameters, on {where}")
    for taken in load_backbone(resolved, detector):
        print(f"starts from {resolved.backbone}: {taken}")
    if resolved.teacher is not None:
        print(f"taught by {resolved.teacher.detector}, weights {str(resolved.teacher.sha256)[:12]}")
    items = f"{resolved.batch} x {resolved.accumulate}" if resolved.accumulate > 1 else str(resolved.batch)
    print(
        f"{len(splits.train):,} items to train on, {len(splits.validation):,} to validate on;"
        f" {resolved.epochs} epochs of {steps:,} steps of {items} items"
    )
    if dry_run:
        import yaml

        print(yaml.safe_dump(describe(resolved, detector, splits), sort_keys=False), end="")
        return None
    print(json.dumps(splits.summary, indent=1, default=str))
    folder = out or RUNS / resolved.name
    if workers is None:
        _alone(resolved, detector, splits, folder, resume, device)
        return folder
    from train.distributed import Storage

    del detector, splits  # each worker builds its own
    storage = Storage(storage_path or str(folder.resolve().parent), folder.name)
    _together(resolved, data, storage, workers, resume)
    return Path(storage.root) if storage.local else None


def _where(workers: Workers | None, device: str) -> str:
    if workers is None:
        return device
    number = str(workers.least) if workers.least == workers.most else f"{workers.least} to {workers.most}"
    return f"{number} {'GPU' if workers.gpu else 'CPU'} workers of Ray Train"


def _alone(recipe: Recipe, detector: Detector, splits: DataSplits, folder: Path, resume: bool, device: str) -> None:
    from train.loop import EpochMetrics, train
    from train.monitor import Monitor, keep

    with Monitor(recipe, folder) as monitor:

        def epoch(metrics: EpochMetrics) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            keep(recipe, splits.summary, folder)
            monitor.epoch(metrics)

        told = monitor.progress
        result = train(detector, splits, recipe, folder, resume=resume, device=device, progress=told, on_epoch=epoch)
    ended = "stopped by Ctrl-C (continue with --resume); " if result.interrupted else ""
    if result.early:
        ended = f"stopped early (patience {recipe.patience}); "
    print(f"{ended}best: epoch {result.best.epoch + 1}, validation AUC {result.best.auc:.4f}, in {folder}")


def _together(recipe: Recipe, data: Path | None, storage: Storage, workers: Workers, resume: bool) -> None:
    from train.distributed import on_ray

    try:
        best = on_ray(recipe, data, storage, workers, resume)
    except KeyboardInterrupt:
        if not storage.holds("last.pt"):
            raise
        print(f"stopped by Ctrl-C (continue with --resume); the finished epochs are in {storage.url}")
        return
    print(f"best: epoch {best.epoch + 1}, validation AUC {best.auc:.4f}, in {storage.url}")


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    made = argparse.ArgumentParser(prog="python -m train", description="Train a detector from a recipe.")
    made.add_argument("recipe", help="a .yaml file, or the name of one in train/recipes")
    made.add_argument("overrides", nargs="*", metavar="key=value", help="for example optimiser.lr=3e-4")
    made.add_argument("--data", type=Path, metavar="DIR", help="the folder with the training data")
    made.add_argument("--out", type=Path, metavar="DIR", help=f"the run folder (default {RUNS}/NAME)")
    made.add_argument("--resume", action="store_true", help="continue the run in the run folder")
    made.add_argument("--dry-run", action="store_true", help="print the resolved recipe, counts and steps")
    made.add_argument("--allow-leaks", action="store_true", help="train although both sides share people or pictures")
    made.add_argument("--local", action="store_true", help="train in this process, without Ray (the default here)")
    made.add_argument("--workers", metavar="N", help="train with N processes on Ray Train; 2-4: any number of these")
    made.add_argument("--gpu", action="store_true", help="on Ray Train, a GPU a worker")
    made.add_argument("--address", help="of a running Ray cluster (default: an own Ray on this machine)")
    made.add_argument("--storage-path", metavar="URL", help="keep the run in URL/NAME, on any fsspec file system")
    made.add_argument("--max-failures", type=int, metavar="N", help="lost workers to recover from (default 3)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 trained, 2 usage, 130 stopped before the first epoch was done."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["sweep"]:
        from train.sweep import main as sweep

        return sweep(words[1:])
    given = parser().parse_intermixed_args(words)
    # A scheduler's SIGTERM ends a run as Ctrl-C does: with its workers, and with what it has learned kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run(
            given.recipe,
            data=given.data,
            out=given.out,
            overrides=[*given.overrides, *(["data.settings.allow_leaks=true"] if given.allow_leaks else [])],
            resume=given.resume,
            dry_run=given.dry_run,
            workers=_workers(given),
            storage_path=given.storage_path,
        )
    except RecipeError as error:
        print(f"python -m train: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in FULL and error.filename is None:
            raise
        what = "no room to write: " if error.errno in FULL else ""
        print(f"python -m train: {what}{error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped before the first epoch was done: nothing was kept", file=sys.stderr)
        return 130
    return 0


def _workers(given: argparse.Namespace) -> Workers | None:
    """None: alone, in this process. Raises RecipeError."""
    if JOB in os.environ and not (given.storage_path or given.dry_run or (given.out and given.out.is_absolute())):
        raise RecipeError(
            "a submitted job runs in a copy of the working directory, where its run would be lost: name a place that"
            " lasts with --storage-path, or an absolute --out"
        )
    asked = [given.workers, given.gpu, given.address, given.storage_path, given.max_failures is not None]
    if given.local:
        if any(asked):
            raise RecipeError("--local trains in this process: leave it out, or the options of workers and clusters")
        return None
    if not any(asked) and JOB not in os.environ:
        return None
    from train.distributed import Workers

    try:
        least, most = Workers.parse(given.workers or "1")
    except ValueError:
        raise RecipeError(f"--workers {given.workers} is neither a number above 0 nor a range such as 2-4") from None
    failures = 3 if given.max_failures is None else given.max_failures
    return Workers(least, most, given.gpu, given.address or ("auto" if JOB in os.environ else None), failures)


if __name__ == "__main__":
    raise SystemExit(main())
