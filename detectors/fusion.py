"""Calibrated logistic stacking of the detectors' scores, with an interval, tolerant of detectors that are missing.

Each detector's calibrated logit is log-odds under an even prior, so a detector that says nothing adds 0 and the rest
still add up. The interval comes from the stacker refitted on bootstrap resamples of its data: with few data it is wide,
and a verdict that it does not carry is not given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from preprocessing.settings import Strict

SHIPPED = Path(__file__).parent / "weights" / "fusion.json"
LOGIT_LIMIT = 8.0
"""Calibrated logits are clipped here (odds of 3000 to 1): no detector is surer than its data could show."""


class FusionModel(Strict):
    """A fitted stacker. `weights` are not negative: a detector may be ignored, never turned round."""

    weights: dict[str, float]
    bias: float
    bootstrap: list[list[float]] = Field(
        description="refits on resamples: the weights in the same order, then the bias"
    )
    level: float = Field(0.9, gt=0, lt=1, description="coverage of the interval")
    threshold: float = Field(0.5, gt=0, lt=1)
    fitted_on: str
    n: int
    for_weights: dict[str, str] = Field(description="sha256 of the detector weights that it was fitted for")
    blind_to: str = Field("", description="a sentence on what these detectors do not see, told with every 'real'")

    @cached_property
    def _refits(self) -> NDArray[np.float64]:
        return np.array(self.bootstrap, np.float64).reshape(-1, len(self.weights) + 1)


@dataclass(frozen=True)
class Fused:
    """`score` and `interval` in 0..1; `contributions`: each detector's signed addend of the fused logit."""

    score: float
    interval: tuple[float, float]
    contributions: dict[str, float]


def load_fusion(path: Path = SHIPPED) -> FusionModel | None:
    """The fitted stacker, None where none was fitted yet."""
    if not path.is_file():
        return None
    return FusionModel.model_validate(json.loads(path.read_text()))


def logit(score: float) -> float:
    """Log-odds of a score, clipped to +-LOGIT_LIMIT."""
    clipped = min(max(score, 1e-12), 1 - 1e-12)
    return float(np.clip(np.log(clipped / (1 - clipped)), -LOGIT_LIMIT, LOGIT_LIMIT))


def _sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(values, np.float64)))


def fuse(model: FusionModel, scores: Mapping[str, float]) -> Fused | None:
    """One probability from the calibrated scores of the detectors that gave one; None where the model knows none."""
    known = {name: logit(scores[name]) for name in model.weights if name in scores}
    if not known:
        return None
    vector = np.array([known.get(name, 0.0) for name in model.weights])
    contributions = {name: model.weights[name] * value for name, value in known.items()}
    total = model.bias + sum(contributions.values())
    refits = model._refits @ np.append(vector, 1.0) if len(model._refits) else np.array([total])
    tail = (1 - model.level) / 2
    low, high = np.quantile(refits, [tail, 1 - tail])
    # The point estimate belongs to its own interval even where the resamples are skewed.
    return Fused(
        float(_sigmoid(total)),
        (float(_sigmoid(min(low, total))), float(_sigmoid(max(high, total)))),
        {name: float(value) for name, value in contributions.items()},
    )


def _fit_once(x: NDArray[np.float64], y: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    """Non-negative weights and a bias by penalised maximum likelihood; the penalty pulls the weights' sum to 1."""
    from scipy.optimize import minimize

    # Balanced classes: the score is the probability under an even prior, whatever the mix of the fitting set.
    mass = np.where(y == 1, 0.5 / max(y.sum(), 1), 0.5 / max((1 - y).sum(), 1)) * len(y)
    centre = np.append(np.full(x.shape[1], 1 / x.shape[1]), 0.0)
    design = np.column_stack([x, np.ones(len(x))])

    def cost(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = design @ theta
        value = np.sum(mass * (np.logaddexp(0, z) - y * z)) + ridge * np.sum((theta - centre) ** 2)
        return float(value), design.T @ (mass * (_sigmoid(z) - y)) + 2 * ridge * (theta - centre)

    bounds = [(0.0, None)] * x.shape[1] + [(None, None)]
    return np.asarray(minimize(cost, centre, jac=True, bounds=bounds, method="L-BFGS-B").x)


def fit_platt(logits: Sequence[float], labels: Sequence[int], ridge: float = 1.0) -> tuple[float, float]:
    """(a, b) of score = sigmoid(a * logit + b), a >= 0 (Platt 1999).

    Where data are few the fit is pulled to a slope of 1 on logits of zero mean and unit deviation: detectors differ in
    the range of their logits.
    """
    x = np.asarray(logits, np.float64)
    centre, spread = float(x.mean()), float(max(x.std(), 1e-6))
    a, b = _fit_once(((x - centre) / spread)[:, None], np.asarray(labels, np.float64), ridge)
    return float(a) / spread, float(b) - float(a) * centre / spread


def fit_fusion(
    scores: Sequence[Mapping[str, float]],
    labels: Sequence[int],
    *,
    fitted_on: str,
    for_weights: dict[str, str],
    blind_to: str = "",
    ridge: float = 1.0,
    resamples: int = 200,
    seed: int = 0,
) -> FusionModel:
    """Fit the stacker on calibrated scores, one mapping a face; a detector absent from a mapping gave no score.

    Raises ValueError unless both classes are there.
    """
    if not {0, 1} <= set(labels):
        raise ValueError("fitting the fusion needs both real and fake examples")
    detectors = sorted({name for row in scores for name in row})
    x = np.array([[logit(row[name]) if name in row else 0.0 for name in detectors] for row in scores])
    y = np.array(labels, np.float64)
    rng = np.random.default_rng(seed)
    refits: list[list[float]] = []
    while len(refits) < resamples:
        pick = rng.integers(0, len(y), len(y))
        if 0 < y[pick].sum() < len(y):
            refits.append([round(float(v), 6) for v in _fit_once(x[pick], y[pick], ridge)])
    theta = _fit_once(x, y, ridge)
    return FusionModel(
        weights={name: float(v) for name, v in zip(detectors, theta[:-1], strict=True)},
        bias=float(theta[-1]),
        bootstrap=refits,
        fitted_on=fitted_on,
        n=len(y),
        for_weights=for_weights,
        blind_to=blind_to,
    )
