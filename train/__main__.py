"""`python -m train RECIPE [--data DIR] [--out DIR] [--resume] [--dry-run] [--local] [key=value ...]`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from detectors.base import Detector
from train.recipe import DataSplits, Recipe, RecipeError, data_module, data_settings, explain, load_recipe

RUNS = Path(".local/runs")


def run(
    recipe: str | Path,
    *,
    data: Path | None = None,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    dry_run: bool = False,
    device: str | None = None,
) -> Path | None:
    """Train from a recipe, in this process; returns the run folder (None for a dry run).

    The folder holds recipe.yaml, data.json, metrics.jsonl, last.pt and best.pt. `data` is the folder that the recipe's
    data builder reads, `out` the run folder (default .local/runs/NAME).

    Raises:
        RecipeError: what is wrong with recipe, overrides, data or folder.
    """
    resolved = load_recipe(recipe, overrides)
    settings = data_settings(resolved)
    import torch

    from train.loop import steps_per_epoch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(resolved.seed)
    detector = _detector(resolved)
    splits = data_module(resolved.data.kind).build(settings, resolved, detector, data)
    steps = steps_per_epoch(len(splits.train), resolved.batch)
    parameters = sum(p.numel() for p in detector.parameters())
    print(f"{resolved.name}: {resolved.detector} ({resolved.profile}), {parameters:,} parameters, on {device}")
    print(json.dumps(splits.summary, indent=1, default=str))
    print(
        f"{len(splits.train):,} items to train on, {len(splits.validation):,} to validate on;"
        f" {resolved.epochs} epochs of {steps:,} steps of {resolved.batch} items"
    )
    if dry_run:
        print(_yaml(resolved), end="")
        return None
    return _train(resolved, detector, splits, out or RUNS / resolved.name, resume, device)


def _detector(recipe: Recipe) -> Detector:
    from detectors.registry import create, entry

    try:
        base = entry(recipe.detector).profiles[recipe.profile]
        config = type(base).model_validate({**base.model_dump(), **recipe.config})
    except ValidationError as error:
        raise RecipeError(f"recipe {recipe.name}, config: {explain(error)}") from error
    except ValueError as error:
        raise RecipeError(f"recipe {recipe.name}: {error}") from error
    return create(recipe.detector, recipe.profile, config)


def _train(recipe: Recipe, detector: Detector, splits: DataSplits, folder: Path, resume: bool, device: str) -> Path:
    from rich.console import Console

    from train.loop import EpochMetrics, Progress, train

    console = Console(stderr=True, highlight=False)
    every = 1 if console.is_terminal else 50
    folder.mkdir(parents=True, exist_ok=True)

    def show(p: Progress) -> None:
        if p.step % every and p.step != p.steps:
            return
        at = f"epoch {p.epoch}/{p.epochs} step {p.step}/{p.steps} loss {p.loss:.4f}"
        console.print(f"{at} {p.rate:.0f} samples/s, {_span(p.left_s)} left", end="\r" if console.is_terminal else "\n")

    def epoch(m: EpochMetrics) -> None:
        # Written with the first checkpoint: a folder that train() refuses keeps the recipe of the run it holds.
        (folder / "recipe.yaml").write_text(_yaml(recipe))
        (folder / "data.json").write_text(json.dumps(splits.summary, indent=1, default=str) + "\n")
        line = (
            f"epoch {m.epoch + 1}: training loss {m.train_loss:.4f}, validation loss {m.val_loss:.4f}, AUC {m.auc:.4f}"
        )
        console.print(f"{line} ({_span(m.seconds)})")

    result = train(detector, splits, recipe, folder, resume=resume, device=device, progress=show, on_epoch=epoch)
    ended = "stopped by Ctrl-C (continue with --resume); " if result.interrupted else ""
    print(f"{ended}best: epoch {result.best.epoch + 1}, validation AUC {result.best.auc:.4f}, in {folder}")
    return folder


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _yaml(recipe: Recipe) -> str:
    import yaml

    return yaml.safe_dump(recipe.model_dump(), sort_keys=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 trained, 2 usage, 130 stopped before the first epoch was done."""
    parser = argparse.ArgumentParser(prog="python -m train", description="Train a detector from a recipe.")
    parser.add_argument("recipe", help="a .yaml file, or the name of one in train/recipes")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example optimiser.lr=3e-4")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the folder with the training data")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"the run folder (default {RUNS}/NAME)")
    parser.add_argument("--resume", action="store_true", help="continue the run in the run folder")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved recipe, counts and steps")
    parser.add_argument("--local", action="store_true", help="train in this process, without Ray")
    given = parser.parse_intermixed_args(arguments)
    # A scheduler's SIGTERM ends a run as Ctrl-C does: with its workers, and with what it has learned kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run(
            given.recipe,
            data=given.data,
            out=given.out,
            overrides=given.overrides,
            resume=given.resume,
            dry_run=given.dry_run,
        )
    except RecipeError as error:
        print(f"python -m train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped before the first epoch was done: nothing was kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
