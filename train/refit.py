"""Fits the classifier of a metric-learning network anew, on the embeddings of its trained network.

    python -m train.refit RUN [--pairs N]

As in the paper (arXiv 2003.08645, section 9 of its specification): the classifier comes after the embedding. While the
network still moves, a classifier that learns beside it is always late. Logistic regression on standardised embeddings
of training pairs, folded into the linear layer; RUN's best.pt is rewritten, validation is told and not used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import nn

from detectors.base import Detector
from train.metrics import auc
from train.recipe import EpochDataset, Recipe, RecipeError, build_data, create_detector, load_recipe
from train.start import read_state

PAIRS = 1500
EPOCH = 10_000
"""Of the draws: no training comes so far."""
STRENGTH = 0.05
"""scikit-learn's C: embeddings are few numbers that say much the same."""

Floats = NDArray[np.float64]


def linear_layer(detector: Detector) -> nn.Linear:
    """The classifier on the embedding. Raises RecipeError where the detector has none of its own."""
    layer = getattr(detector, "classifier", None)
    if not isinstance(layer, nn.Linear) or layer.out_features != 1:
        raise RecipeError(f"{detector.name} has no linear classifier on its embedding: nothing to fit anew")
    return layer


def embedded(detector: Detector, data: EpochDataset, rows: Sequence[int]) -> tuple[Floats, Floats]:
    """Embeddings (N, D) and labels (N,) of those items."""
    vectors, labels = [], []
    with torch.inference_mode():
        for row in rows:
            item = data[row]
            found = detector(detector.prepare(item["inputs"])).embedding
            assert found is not None
            vectors.append(found.double().numpy())
            labels.append(item["label"])
    return np.concatenate(vectors), np.concatenate(labels).astype(np.float64)


def fit(vectors: Floats, labels: Floats) -> tuple[Floats, float]:
    """Weights (D,) and bias of the logit of fake."""
    mean, spread = vectors.mean(0), vectors.std(0) + 1e-9
    model = LogisticRegression(C=STRENGTH, max_iter=1000).fit((vectors - mean) / spread, labels)
    weight = model.coef_[0] / spread
    return weight, float(model.intercept_[0] - weight @ mean)


def refit(run: Path, pairs: int = PAIRS, data: Path | None = None) -> tuple[float, float]:
    """Rewrites best.pt; validation AUC before and after. Raises RecipeError, or what reading the run raises."""
    recipe: Recipe = load_recipe(run / "recipe.yaml")
    detector = create_detector(recipe.model_copy(update={"backbone": None}))
    layer = linear_layer(detector)
    detector.load_state_dict(read_state(run / "best.pt"))
    detector.eval()
    splits = build_data(recipe, detector, data)
    splits.train.epoch = EPOCH
    order = np.random.default_rng(recipe.seed).permutation(len(splits.train))[:pairs]
    weight, bias = fit(*embedded(detector, splits.train, order.tolist()))
    held, labels = embedded(detector, splits.validation, range(len(splits.validation)))
    before = held @ layer.weight.detach()[0].double().numpy()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight)[None])
        layer.bias.fill_(bias)
    part = run / "best.pt.part"
    torch.save(detector.state_dict(), part)
    part.replace(run / "best.pt")
    return auc(labels, before), auc(labels, held @ weight)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0, or 2 after a message."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m train.refit", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run folder of `python -m train`")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"of training data; default {PAIRS}")
    parser.add_argument("--data", type=Path, help="the run's data, where it is not at its usual place")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        before, after = refit(given.run, given.pairs, given.data)
    except (RecipeError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{given.run / 'best.pt'}: validation AUC {before:.4f} before, {after:.4f} with the new classifier")
    return 0


if __name__ == "__main__":
    sys.exit(main())
