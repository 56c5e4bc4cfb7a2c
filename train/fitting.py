"""The whole fit as one procedure, which cross-fitting can repeat: calibrators, stacker, interval, bounds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from detectors.fusion import DIGITS, Fused, FusionModel, fuse, join, logit, sigmoid
from detectors.quality import MEASURES
from train.examples import Examples, Floats, Ints, folds
from train.selective import select
from train.stacking import Chain, Platt, chain, refit

MEAN = "plain mean"


@dataclass(frozen=True)
class Options:
    """`risk` among the decided, `false_alarms` among real files; `resamples` of the interval; `temperature`: calibrate
    by a slope alone; `never_real`: no verdict "real", whatever the risk would allow."""

    folds: int = 5
    risk: float = 0.05
    false_alarms: float = 0.02
    never_real: bool = False
    resamples: int = 100
    temperature: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Fitted:
    """A fusion and the calibrations (a, b) that belong to it, by detector."""

    platts: dict[str, Platt]
    model: FusionModel


@dataclass(frozen=True)
class Answer:
    """A file's score, its interval, and each detector's score alone and their plain mean in log-odds (MEAN), all
    calibrated and joined over the tracks."""

    score: float
    interval: tuple[float, float]
    singles: dict[str, float]


def fit(
    made: Examples, options: Options, *, fitted_on: str = "", for_weights: Mapping[str, str] = {}, blind_to: str = ""
) -> Fitted:
    """Fit everything on these examples. Raises BadRows where they are too few or of one class."""
    final = chain(made, options.folds, options.seed, options.temperature)
    scores = cross_scores(made, options)
    weights = np.bincount(made.file, weights=made.mass(), minlength=len(made))
    bounds = select(
        scores,
        made.label,
        np.asarray(weights, np.float64),
        made.stacked,
        risk=options.risk,
        false_alarms=options.false_alarms,
        never_real=options.never_real,
    )
    platts = [(_short(a), _short(b)) for a, b in final.platts]
    stack = final.stack
    model = FusionModel(
        weights={name: _short(value) for name, value in zip(made.names, stack.weights, strict=True)},
        bias=_short(stack.bias),
        shrink={name: _short(value) for name, value in zip(MEASURES, stack.shrink, strict=True)},
        sharing=_short(stack.sharing),
        bootstrap=refit(made, Chain(platts, stack), options.resamples, options.seed, options.temperature),
        threshold=bounds.threshold,
        real_below=bounds.real_below,
        selection=bounds.selection,
        fitted_on=fitted_on,
        n=len(made),
        sources=len(np.unique(made.source)),
        for_weights={name: for_weights[name] for name in made.names if name in for_weights},
        blind_to=blind_to,
        saw=sorted({str(row["sha256"])[:DIGITS] for row in made.rows if row.get("sha256")}),
    )
    return Fitted(dict(zip(made.names, platts, strict=True)), model)


def cross_scores(made: Examples, options: Options) -> Floats:
    """Each file's score (F,) by a fit that saw nothing of its source."""
    fold = folds(made, options.folds, options.seed + 1)
    scores = np.zeros(len(made))
    for number in range(int(fold.max()) + 1):
        held = fold == number
        seen = chain(made.take(~held), options.folds, options.seed, options.temperature)
        part = made.take(held)
        logits = seen.logit(part.logits, part.quality)
        scores[held] = [join([sigmoid(float(value)) for value in tracks]) for tracks in part.by_file(logits)]
    return scores


def answer(fitted: Fitted, made: Examples) -> list[Answer | None]:
    """What the fused pipeline says of each file, by detectors.fusion itself; None where it has nothing to say."""
    return [_of_file(fitted, made, np.flatnonzero(made.file == number)) for number in range(len(made))]


def _of_file(fitted: Fitted, made: Examples, tracks: Ints) -> Answer | None:
    fused: list[Fused] = []
    singles: dict[str, list[float]] = defaultdict(list)
    for track in tracks:
        logits = zip(made.names, made.logits[track], strict=True)
        scores = {name: _score(fitted.platts[name], value) for name, value in logits if np.isfinite(value)}
        said = fuse(fitted.model, scores, dict(zip(MEASURES, made.quality[track], strict=True)))
        fused += [said] if said is not None else []
        for name, score in scores.items():
            singles[name].append(score)
        singles[MEAN].append(sigmoid(float(np.mean([logit(score) for score in scores.values()]))))
    if not fused:
        return None
    low, high = join([one.interval[0] for one in fused]), join([one.interval[1] for one in fused])
    return Answer(join([one.score for one in fused]), (low, high), {name: join(s) for name, s in singles.items()})


def _score(platt: Platt, value: float) -> float:
    return sigmoid(platt[0] * value + platt[1])


def _short(value: float) -> float:
    """Six decimals: as many as a card shows."""
    return round(float(value), 6)
