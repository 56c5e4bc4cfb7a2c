"""Fit calibrators and the stacker; where scores are needed to judge by, no file's source is in its own fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.fusion import FLOOR, LOGIT_LIMIT
from detectors.quality import MEASURES
from train.examples import BadRows, Examples, Floats, folds

RIDGE = 1.0
"""Strength of the pull to the prior fit (a plain mean of the calibrated logits), in files."""
QUALITY_RIDGE = 4.0
"""The same for the rates of shrinkage (prior 0) and the sharing (prior a half): few files tell of them."""

Platt = tuple[float, float]
"""(a, b) of calibrated logit = a * logit + b, a >= 0."""


@dataclass(frozen=True)
class Stack:
    """A fitted stacker; the terms are those of detectors.fusion. `weights` (D,), `shrink` (len(MEASURES),)."""

    weights: Floats
    bias: float
    shrink: Floats
    sharing: float

    def logit(self, calibrated: Floats, quality: Floats) -> Floats:
        """Fused log-odds (N,) of calibrated logits (N, D), NaN where missing, and quality (N, len(MEASURES))."""
        theta = np.concatenate([self.weights, [self.bias], self.shrink, [self.sharing]])
        return _forward(theta, *_split(calibrated), quality)[0]


@dataclass(frozen=True)
class Chain:
    """Calibrators and stacker as they are used one after the other."""

    platts: list[Platt]
    stack: Stack

    def logit(self, logits: Floats, quality: Floats) -> Floats:
        """Fused log-odds (N,) from logits before calibration (N, D)."""
        return self.stack.logit(apply(self.platts, logits), quality)


def fit_platt(
    logits: Sequence[float] | Floats,
    labels: Sequence[int] | NDArray[np.integer],
    mass: Floats | None = None,
    *,
    temperature: bool = False,
    ridge: float = RIDGE,
) -> Platt:
    """(a, b) of score = sigmoid(a * logit + b), a >= 0 (Platt 1999); with `temperature` b = 0 (Guo et al. 2017).

    Classes weigh the same unless `mass` (N,) says otherwise. Where data are few the fit is pulled to a slope of 1 on
    logits of zero mean and unit deviation: detectors differ in the range of their logits.
    """
    x, y = np.asarray(logits, np.float64), np.asarray(labels, np.float64)
    if mass is None:
        mass = np.where(y == 1, 0.5 / max(y.sum(), 1), 0.5 / max((1 - y).sum(), 1)) * len(y)
    share = mass / max(mass.sum(), 1e-12)
    centre = 0.0 if temperature else float(share @ x)
    spread = float(max(np.sqrt(share @ (x - centre) ** 2), 1e-6))
    z = (x - centre) / spread
    design = np.column_stack([z, np.zeros_like(z) if temperature else np.ones_like(z)])
    prior = np.array([1.0, 0.0])

    def cost(theta: Floats) -> tuple[float, Floats]:
        value = design @ theta
        loss = mass @ (np.logaddexp(0, value) - y * value) + ridge * np.sum((theta - prior) ** 2)
        return float(loss), design.T @ (mass * (_sigmoid(value) - y)) + 2 * ridge * (theta - prior)

    a, b = _minimise(cost, prior, [(0.0, None), (None, None)])
    return float(a) / spread, float(b) - float(a) * centre / spread


def fit_stack(
    calibrated: Floats, quality: Floats, labels: Floats, mass: Floats, usable: Sequence[bool] | None = None
) -> Stack:
    """By penalised maximum likelihood. `calibrated` (N, D), NaN where missing; `quality` (N, len(MEASURES)).

    `usable` (D,): detectors that may have a weight; one that pointed the wrong way says the same of every face.
    """
    logits, present = _split(calibrated)
    count = calibrated.shape[1]
    prior = np.concatenate([np.full(count, 1 / count), [0.0], np.zeros(len(MEASURES)), [0.5]])
    pull = np.concatenate([np.full(count + 1, RIDGE), np.full(len(MEASURES) + 1, QUALITY_RIDGE)])

    def cost(theta: Floats) -> tuple[float, Floats]:
        value, gradient = _forward(theta, logits, present, quality)
        loss = mass @ (np.logaddexp(0, value) - labels * value) + pull @ (theta - prior) ** 2
        return float(loss), gradient.T @ (mass * (_sigmoid(value) - labels)) + 2 * pull * (theta - prior)

    bounds = [(0.0, None if able else 0.0) for able in ([True] * count if usable is None else usable)]
    theta = _minimise(cost, prior, [*bounds, (None, None), *[(0.0, None)] * len(MEASURES), (0.0, 1.0)])
    return Stack(theta[:count], float(theta[count]), theta[count + 1 : -1], float(theta[-1]))


def calibrators(made: Examples, mass: Floats, temperature: bool = False) -> list[Platt]:
    """One a detector; (0, 0), which says nothing, where it has scores of one class only."""
    found = []
    label = made.label[made.file]
    for column in made.logits.T:
        known = np.isfinite(column) & (mass > 0)
        if set(label[known].tolist()) == {0, 1}:
            found.append(
                fit_platt(column[known], label[known], _even(mass[known], label[known]), temperature=temperature)
            )
        else:
            found.append((0.0, 0.0))
    return found


def chain(made: Examples, count: int, seed: int = 0, temperature: bool = False) -> Chain:
    """Calibrators on all examples, and a stacker that was shown each file as calibrated without its source."""
    fold = folds(made, count, seed)
    mass = made.mass()
    shown = np.full_like(made.logits, np.nan)
    for number in range(int(fold.max()) + 1):
        held = (fold == number)[made.file]
        shown[held] = apply(calibrators(made, np.where(held, 0.0, mass), temperature), made.logits[held])
    final = calibrators(made, mass, temperature)
    return Chain(final, _stacked(made, shown, final))


def refit(made: Examples, final: Chain, resamples: int, seed: int = 0, temperature: bool = False) -> list[list[float]]:
    """The whole chain on resampled sources, in the form of FusionModel.bootstrap, on the final calibrators' logits."""
    rng = np.random.default_rng(seed)
    refits: list[list[float]] = []
    tries = 0
    while len(refits) < resamples:
        tries += 1
        if tries > 20 * resamples:
            raise BadRows("too few sources of one class to resample: give files of more sources")
        times = made.resample(rng)
        drawn = made.stacked & (times > 0)
        if set(made.label[drawn].tolist()) != {0, 1}:
            continue
        platts = calibrators(made, made.mass(times), temperature)
        found = _stacked(made, apply(platts, made.logits), final.platts, times)
        slopes = [a / old if old > 0 else 0.0 for (a, _), (old, _) in zip(platts, final.platts, strict=True)]
        offsets = [b - slope * old for (_, b), slope, (_, old) in zip(platts, slopes, final.platts, strict=True)]
        row = [*found.weights * slopes, found.bias, *found.weights * offsets, *found.shrink, found.sharing]
        refits.append([round(float(value), 4) for value in row])
    return refits


def apply(platts: Sequence[Platt], logits: Floats) -> Floats:
    """Calibrated logits (N, D), clipped as in use; NaN stays NaN, and so is all of a detector without a calibration."""
    a, b = np.array(platts, np.float64).T
    found = np.clip(logits * a + b, -LOGIT_LIMIT, LOGIT_LIMIT)
    return np.where((a == 0) & (b == 0), np.nan, found)


def _stacked(made: Examples, calibrated: Floats, final: Sequence[Platt], times: Floats | None = None) -> Stack:
    """The stacker on the files that take part in it, with what they weigh among themselves."""
    part = made.take(made.stacked)
    kept = made.stacked[made.file]
    mass = part.mass(None if times is None else times[made.stacked])
    labels = part.label[part.file].astype(np.float64)
    return fit_stack(calibrated[kept], part.quality, labels, mass, [a > 0 for a, _ in final])


def _even(mass: Floats, label: NDArray[np.integer]) -> Floats:
    """The same weights with both classes' sums made equal: a detector may lack scores of one more often."""
    sums = {side: mass[label == side].sum() for side in (0, 1)}
    half = 2 * sums[0] * sums[1] / max(sums[0] + sums[1], 1e-12)
    return np.asarray(np.where(label == 1, mass / max(sums[1], 1e-12), mass / max(sums[0], 1e-12)) * half)


def _split(calibrated: Floats) -> tuple[Floats, Floats]:
    present = np.isfinite(calibrated)
    return np.where(present, calibrated, 0.0), present.astype(np.float64)


def _forward(theta: Floats, logits: Floats, present: Floats, quality: Floats) -> tuple[Floats, Floats]:
    """Fused log-odds (N,) and their gradient (N, parameters)."""
    count = logits.shape[1]
    weights, bias, shrink, sharing = theta[:count], theta[count], theta[count + 1 : -1], theta[-1]
    all_, there = weights.sum() + FLOOR, present @ weights + FLOOR
    factor = np.exp(-quality @ shrink) * (all_ / there) ** sharing
    said = factor * (logits @ weights)
    by_weight = factor[:, None] * logits + (said * sharing)[:, None] * (1 / all_ - present / there[:, None])
    by_rest = np.column_stack([np.ones(len(said)), -quality * said[:, None], said * np.log(all_ / there)])
    return bias + said, np.column_stack([by_weight, by_rest])


def _minimise(cost: object, start: Floats, bounds: list[tuple[float | None, float | None]]) -> Floats:
    from scipy.optimize import minimize

    return np.asarray(minimize(cost, start, jac=True, bounds=bounds, method="L-BFGS-B").x)


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(values / 2)))
