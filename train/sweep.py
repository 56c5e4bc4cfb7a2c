"""`python -m train sweep RECIPE --param optimiser.lr=1e-4,3e-4 [--samples N]`: many settings of a recipe, on Ray Tune.

A setting is a run of the plain loop in a process of its own, as many at once as there are cores (with --gpu, GPUs).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from train.checkpoint import writable, write
from train.distributed import Workers, check_gpus, last_line
from train.optim import check
from train.prepare.cluster import connected, prepare_environment
from train.prepare.settings import PrepareError
from train.recipe import Recipe, RecipeError, build_data, create_detector, data_settings, load_recipe


def settings(params: Sequence[str], samples: int | None, seed: int) -> list[list[str]]:
    """Overrides of each run: all combinations of the values, or `samples` of them drawn without repetition.

    A parameter is `key=value,value,...`, or `key=low..high`, drawn log-uniformly, which needs `samples`.

    Raises:
        RecipeError: a parameter of another form, or one that is given twice.
    """
    keys = [param.partition("=")[0] for param in params]
    choices = [_choices(param) for param in params]
    if not params or len(set(keys)) < len(keys):
        raise RecipeError("a sweep needs one --param key=value,value for each key that it changes")
    rng = np.random.default_rng(seed)
    if any(isinstance(one, tuple) for one in choices):
        if samples is None:
            raise RecipeError("--param with a range low..high needs --samples, the number of values to draw")
        drawn = [[_draw(one, rng) for one in choices] for _ in range(samples)]
    else:
        drawn = [list(one) for one in itertools.product(*(c for c in choices if isinstance(c, list)))]
        if samples is not None and samples < len(drawn):
            drawn = [drawn[i] for i in sorted(rng.choice(len(drawn), samples, replace=False))]
    return [[f"{key}={value}" for key, value in zip(keys, one, strict=True)] for one in drawn]


def _choices(param: str) -> list[str] | tuple[float, float]:
    key, equals, text = param.partition("=")
    low, dots, high = text.partition("..")
    try:
        if dots and 0 < float(low) < float(high):
            return float(low), float(high)
        values = [] if dots or not text else yaml.safe_load(f"[{text}]")
    except (ValueError, yaml.YAMLError):
        values = []
    if not key or not equals or not values:
        raise RecipeError(f"--param {param!r} is neither key=value,value,... nor key=low..high with 0 < low < high")
    return [yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip() for value in values]


def _draw(choice: list[str] | tuple[float, float], rng: np.random.Generator) -> str:
    if isinstance(choice, tuple):
        return f"{float(np.exp(rng.uniform(*np.log(choice)))):.4g}"
    return choice[int(rng.integers(len(choice)))]


def sweep(
    recipe: str,
    runs: list[list[str]],
    overrides: Sequence[str],
    data: Path | None,
    out: Path,
    gpu: bool,
    address: str | None,
) -> list[dict[str, Any]]:
    """Train under each of `runs`; the results, best validation AUC first, also in out/sweep.json.

    A run that a stopped sweep has left in its folder goes on, a finished one is not trained again.

    Raises RecipeError: a setting that is none (before anything runs), a cluster that cannot be used, or a folder that
    cannot be written.
    """
    if gpu and address is None:
        check_gpus(Workers(gpu=True))
    if data is not None and not data.exists():
        raise RecipeError(f"there is no folder or file {data}: --data names what to train on")
    resolved = [load_recipe(recipe, [*overrides, *one]) for one in runs]
    for one in resolved:
        data_settings(one)
        check(create_detector(one), one)
    if (out / "sweep.json").exists():
        raise RecipeError(f"{out} already holds a sweep: name another folder with --out")
    with writable(out):
        out.mkdir(parents=True, exist_ok=True)
    prepare_environment()
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    try:
        import ray
        from ray import tune
    except ImportError as error:
        raise RecipeError(f"Ray Tune is not installed ({error}): install unmask-forensics[serve]") from None
    each = 1 + max(one.workers for one in resolved)
    given = [
        {
            "recipe": one.model_dump(mode="json"),
            "folder": str(out.resolve() / f"run{number:03d}"),
            "data": str(data.resolve()) if data else None,
            "gpu": gpu,
        }
        for number, one in enumerate(resolved)
    ]
    try:
        with connected(ray, None, address):
            tuner = tune.Tuner(
                tune.with_resources(_trial, {"cpu": each, "gpu": int(gpu)}),
                param_space={"run": tune.grid_search(given)},
                run_config=tune.RunConfig(name="tune", storage_path=str(out.resolve()), verbose=0),
            )
            found = list(tuner.fit())
    except PrepareError as error:
        raise RecipeError(str(error)) from error
    lines = []
    for one in found:
        number = next(i for i, run in enumerate(given) if run == one.config["run"])
        failed = one.error is not None or not one.metrics or "auc" not in one.metrics
        best = {} if failed else one.metrics["best"]
        why = {"why": last_line(one.error) if one.error else "it ended without a result"} if failed else {}
        lines.append({"overrides": runs[number], "folder": given[number]["folder"], "failed": failed, **why, **best})
    lines.sort(key=lambda line: -line.get("auc", -1.0))
    write(json.dumps(lines, indent=1) + "\n", out / "sweep.json")
    return lines


def _trial(config: dict[str, Any]) -> None:
    import torch
    from ray import tune

    from train.loop import EpochMetrics, train
    from train.monitor import Monitor, keep

    run = config["run"]
    recipe, folder = Recipe.model_validate(run["recipe"]), Path(run["folder"])
    torch.manual_seed(recipe.seed)
    detector = create_detector(recipe)
    data = Path(run["data"]) if run["data"] else None
    splits = build_data(recipe, detector, data)
    with Monitor(recipe, folder) as monitor:

        def on_epoch(metrics: EpochMetrics) -> None:
            keep(recipe, splits.summary, folder)
            monitor.epoch(metrics)

        device = "cuda" if run["gpu"] else "cpu"
        best = train(detector, splits, recipe, folder, resume=True, device=device, on_epoch=on_epoch).best
    tune.report({"auc": best.auc, "best": asdict(best)})


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 all trained, 1 some failed, 2 usage."""
    parser = argparse.ArgumentParser(prog="python -m train sweep", description="Train a recipe under many settings.")
    parser.add_argument("recipe", help="a .yaml file, or the name of one in train/recipes")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for all runs")
    parser.add_argument("--param", action="append", default=[], metavar="KEY=A,B", help="values to try, or LOW..HIGH")
    parser.add_argument("--samples", type=int, metavar="N", help="runs, drawn at random (default: every combination)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the folder with the training data")
    parser.add_argument("--out", type=Path, metavar="DIR", help="of the sweep (default .local/runs/RECIPE-sweep)")
    parser.add_argument("--gpu", action="store_true", help="a GPU a run")
    parser.add_argument("--address", help="of a running Ray cluster (default: an own Ray on this machine)")
    given = parser.parse_intermixed_args(arguments)
    out = given.out or Path(".local/runs") / f"{Path(given.recipe).stem}-sweep"
    try:
        if given.samples is not None and given.samples < 1:
            raise RecipeError("--samples must be at least 1")
        runs = settings(given.param, given.samples, given.seed)
        lines = sweep(given.recipe, runs, given.overrides, given.data, out, given.gpu, given.address)
    except RecipeError as error:
        print(f"python -m train sweep: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on after the finished epochs in {out}", file=sys.stderr)
        return 130
    for line in lines:
        told = f"failed ({line['why']})" if line["failed"] else f"AUC {line['auc']:.4f}, epoch {line['epoch'] + 1}"
        print(f"{told}: {' '.join(line['overrides'])}, in {line['folder']}")
    return 1 if any(line["failed"] for line in lines) else 0
