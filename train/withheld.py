"""Trained detectors on pseudo-fakes of families and of people that no training showed them.

    python -m train.withheld [NAME ...] [--faces PACK] [--clips PACK] [--json FILE]

The people are those who validate, the families `swap_poisson` and `swap_affine`, held out by every compact recipe.
The same still goes to all detectors of pictures, each cropping it as it declares, so that their fusion is measured
too. Calibrated scores; intervals by resampled people or clips.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from detectors.fusion import fuse, load_fusion
from detectors.predict import predict
from detectors.store import LoadedDetector, WeightsError, available, load
from preprocessing.inputs import ClipInput, FaceInput
from train import clips, faces
from train.clip_pack import PACK as CLIPS
from train.metrics import Estimate, summary
from train.recipe import EpochDataset, Recipe, RecipeError, data_module, data_settings, load_recipe

FAMILIES = {"swap_poisson": 1.0, "swap_affine": 1.0}
STILLS = 500
"""Pairs of a real still and its fake."""
WINDOWS = 28
"""Pairs of every clip that validates."""
EPOCH = 1000
"""Of the draws: no training comes so far."""
FIGURES = ("auc", "ece", "tpr_at_5fpr")


@dataclass(frozen=True)
class Scored:
    """Calibrated scores (N,) of reals and fakes in turn, with labels and the number of each one's person or clip."""

    scores: NDArray[np.float64]
    labels: NDArray[np.float64]
    sources: NDArray[np.int64]

    def figures(self) -> dict[str, Estimate]:
        """By name, of FIGURES."""
        found = summary(self.labels, self.scores, 0.5, self.sources)
        return {name: found[name] for name in FIGURES}


def recipe_of(name: str) -> Recipe:
    """Whose data the detector is measured on: its own, or for one that learned otherwise the plain classifier's."""
    recipe = load_recipe(f"{name}-compact")
    return recipe if recipe.data.kind in ("images", "clips") else load_recipe("xception-compact")


def withheld_pairs(recipe: Recipe, loaded: LoadedDetector, pack: Path, stills: Path) -> EpochDataset:
    """What the recipe validates on, made of FAMILIES alone. Raises RecipeError without the pack."""
    if not pack.is_file():
        raise RecipeError(f"there is no pack {pack}: see docs/training.md")
    settings = data_settings(recipe)
    changes: dict[str, Any] = {"families": FAMILIES, "hold_out": ()}
    if isinstance(settings, clips.Settings):
        changes |= {"windows": WINDOWS, "faces": stills, "partial": 0.0}
    else:
        changes |= {"validation_items": STILLS}
    splits = data_module(recipe.data.kind).build(settings.model_copy(update=changes), recipe, loaded.detector, pack)
    splits.validation.epoch = EPOCH
    found: EpochDataset = splits.validation
    return found


def score(loaded: LoadedDetector, pairs: EpochDataset) -> Scored:
    """Every pair's real and fake."""
    scores, labels, sources = [], [], []
    for index in range(len(pairs)):
        item = pairs[index]
        scores.append(loaded.score(predict(loaded, item["inputs"]).logits))
        labels.append(item["label"])
        sources.append(item["source"])
    return Scored(np.concatenate(scores), np.concatenate(labels).astype(np.float64), np.concatenate(sources))


def fused(found: dict[str, Scored]) -> Scored:
    """The shipped fusion over detectors that scored the same samples."""
    model = load_fusion()
    if model is None:
        raise RecipeError("no fusion was fitted yet")
    one = next(iter(found.values()))
    if any(not np.array_equal(one.labels, other.labels) for other in found.values()):
        raise RecipeError("the detectors did not see the same samples")
    scores = []
    for row in range(len(one.labels)):
        answer = fuse(model, {name: float(each.scores[row]) for name, each in found.items()})
        scores.append(answer.score if answer else float("nan"))
    return Scored(np.array(scores), one.labels, one.sources)


def measure(names: Sequence[str], face_pack: Path, clip_pack: Path) -> dict[str, Scored]:
    """By detector, and "fused" where there are two of pictures. Raises RecipeError, WeightsError."""
    found: dict[str, Scored] = {}
    pictures = []
    for name in names:
        loaded = load(name)
        kind = loaded.detector.input
        if not isinstance(kind, (FaceInput, ClipInput)):
            print(f"{name}: takes {type(kind).__name__}, and these fakes are of pictures", flush=True)
            continue
        pack = clip_pack if isinstance(kind, ClipInput) else face_pack
        found[name] = score(loaded, withheld_pairs(recipe_of(name), loaded, pack, face_pack))
        pictures += [name] if isinstance(kind, FaceInput) else []
        print(f"{name}: {_line(found[name])}", flush=True)
    if len(pictures) > 1:
        found["fused"] = fused({name: found[name] for name in pictures})
        print(f"fused, of {len(pictures)} detectors of pictures: {_line(found['fused'])}", flush=True)
    return found


def _line(one: Scored) -> str:
    return ", ".join(f"{name} {value}" for name, value in one.figures().items())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0, or 2 after a message."""
    parser = argparse.ArgumentParser(
        prog="python -m train.withheld", description="Pseudo-fakes that no training showed."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="detectors; default: all with weights")
    parser.add_argument("--faces", type=Path, default=faces.PACK, help=f"default {faces.PACK}")
    parser.add_argument("--clips", type=Path, default=CLIPS, help=f"default {CLIPS}")
    parser.add_argument("--json", type=Path, help="figures as JSON")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        found = measure(given.names or sorted(available()), given.faces, given.clips)
    except (RecipeError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 2
    if given.json:
        told = {name: {key: value.as_dict() for key, value in one.figures().items()} for name, one in found.items()}
        given.json.write_text(json.dumps({"families": list(FAMILIES), "detectors": told}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
