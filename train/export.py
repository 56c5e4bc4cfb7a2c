"""`python -m train.export RUN [--out DIR]`: the best weights of a run, with their card, where detectors find them.

Without --out they go to the user's store (UNMASK_WEIGHTS, else the cache folder) and are used from then on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError

from detectors.registry import create, entry
from detectors.store import Metric, WeightCard, WeightsError, save, user_store
from train.recipe import RecipeError, explain, load_recipe

LICENCE = "Apache-2.0 for what was trained here; the pictures trained on keep their own licences"


def export(
    run: Path,
    folder: Path,
    *,
    name: str | None = None,
    licence: str = LICENCE,
    data: str | None = None,
    command: str | None = None,
    limits: str = "",
    metrics: Sequence[Metric] = (),
) -> WeightCard:
    """Write best.pt of the run folder as safetensors and its card into `folder`.

    Where `metrics` hold nothing of the set "validation", the card carries the validation AUC of the epoch that is kept.
    Without `data` the card lists the counts that the run recorded.

    Raises:
        RecipeError: no run there, or one that finished no epoch.
    """
    missing = [file for file in ("recipe.yaml", "best.pt", "metrics.jsonl", "data.json") if not (run / file).is_file()]
    if missing:
        raise RecipeError(f"{run} is not a run folder with a finished epoch: it has no {', '.join(missing)}")
    recipe = load_recipe(run / "recipe.yaml")
    base = entry(recipe.detector).profiles[recipe.profile]
    config = type(base).model_validate({**base.model_dump(), **recipe.config})
    detector = create(recipe.detector, recipe.profile, config)
    detector.load_state_dict(torch.load(run / "best.pt", map_location="cpu", weights_only=True))
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    merit = (lambda epoch: epoch["auc"]) if recipe.watch == "auc" else (lambda epoch: -epoch["val_loss"])
    best = max(history, key=lambda epoch: (merit(epoch), epoch["epoch"]))
    if not any(metric.set == "validation" for metric in metrics):
        note = f"held-out people, epoch {best['epoch'] + 1} of {recipe.epochs}, which validation chose: optimistic"
        own = Metric(
            set="validation", metric="auc", value=round(best["auc"], 4), n=best.get("val_samples", 0), note=note
        )
        metrics = [own, *metrics]
    return save(
        detector,
        folder,
        profile=recipe.profile,
        name=name or recipe.name,
        licence=licence,
        data=data or (run / "data.json").read_text(),
        command=command or f"python -m train {recipe.name} --data DIR",
        seed=recipe.seed,
        date=datetime.now(UTC).date().isoformat(),
        metrics=[metric.model_dump() for metric in metrics],
        limits=limits,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 written, 2 usage."""
    parser = argparse.ArgumentParser(prog="python -m train.export", description="Keep a run's best weights for use.")
    parser.add_argument("run", type=Path, help="a run folder of `python -m train`")
    parser.add_argument("--out", type=Path, metavar="DIR", help="a folder of weights (default: the user's store)")
    parser.add_argument("--name", help="of the weights (default: the recipe's)")
    parser.add_argument("--licence", default=LICENCE)
    parser.add_argument("--data", metavar="TEXT", help="what it was trained on (default: the run's counts)")
    parser.add_argument("--command", metavar="TEXT", help="how it was trained")
    parser.add_argument("--limits", default="", metavar="TEXT", help="what it cannot do")
    parser.add_argument(
        "--metrics", type=Path, metavar="FILE", help="JSON, a list of {set, metric, value, low, high, n}"
    )
    given = parser.parse_args(arguments)
    try:
        metrics = TypeAdapter(list[Metric]).validate_json(given.metrics.read_bytes()) if given.metrics else []
        card = export(
            given.run,
            given.out or user_store(),
            name=given.name,
            licence=given.licence,
            data=given.data,
            command=given.command,
            limits=given.limits,
            metrics=metrics,
        )
    except ValidationError as error:
        print(f"python -m train.export: {explain(error)}", file=sys.stderr)
        return 2
    except (OSError, RecipeError, WeightsError) as error:
        print(f"python -m train.export: {error}", file=sys.stderr)
        return 2
    print(f"{card.file}, {card.bytes:,} bytes, sha256 {card.sha256[:12]}, in {given.out or user_store()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
