"""Figures of the fused score that no fit flatters: every file is judged by a fit that saw nothing of its source.

Each fold repeats the whole procedure of train.fitting, calibrators, stacker, interval and bounds, on the other folds.
Intervals are 95 %, from 1,000 resamples of sources; differences between two scores use the same resamples for both.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.fusion import FusionModel, join
from train.examples import Bools, Examples, Floats, Ints, folds
from train.fitting import MEAN, Answer, Fitted, Options, answer, fit
from train.metrics import Estimate, expected_calibration_error, proportion

RESAMPLES = 1000
FACES = (1, 3, 10)
DRAWS = 2000
NEUTRAL = 0.5
"""What a detector is taken to say of a file for which it gave no score, where it is compared with the fused score."""


def crossfit(
    made: Examples,
    options: Options,
    seed: int = 0,
    apart: Examples | None = None,
    perturbed: Mapping[str, Examples] | None = None,
) -> dict[str, Any]:
    """The report: see docs/detectors/fusion.md. Raises BadRows where the examples are too few.

    `apart`: files that no fit sees, judged by a fit on all of `made`; they enter no figure but their own. `perturbed`:
    the same files after a step of a suite, judged by the fit that did not see their source; no fit sees any of them.
    """
    fold = folds(made, options.folds, options.seed + 2)
    found: list[Answer | None] = [None] * len(made)
    fits: list[Fitted] = []
    for number in range(int(fold.max()) + 1):
        held = fold == number
        fitted = fit(made.take(~held), options)
        fits.append(fitted)
        for place, one in zip(np.flatnonzero(held), answer(fitted, made.take(held)), strict=True):
            found[place] = one
    models = [fitted.model for fitted in fits]
    silent = np.array([one is None for one in found])
    answers = [one or Answer(NEUTRAL, (0.0, 1.0), {}) for one in found]
    scores = np.array([one.score for one in answers])
    verdicts = [models[n].decide(one.score, one.interval) for one, n in zip(answers, fold, strict=True)]
    names = [*made.names, MEAN]
    singles = {n: np.array([one.singles.get(n, np.nan) for one in answers]) for n in names}
    part, real = made.stacked, made.label == 0
    draws = _draws(made, seed)
    kinds, heard = _kinds(made), part & real & ~silent
    if apart:
        heard &= np.isin(kinds, _kinds(apart))
    return {
        "files": int(part.sum()),
        "sources": len(np.unique(made.source[part])),
        "folds": int(fold.max()) + 1,
        "without_a_score": int(silent[part].sum()),
        "options": options.__dict__,
        "auc": _auc(scores, part, made, draws).as_dict(),
        "ece": _ece(scores[part], made.label[part]),
        "against": {name: _against(scores, values, part, made, draws) for name, values in singles.items()},
        "best_single": _best(scores, singles, part, made, draws),
        "by_dataset": _by(made, "dataset", scores, draws),
        "by_method": _by(made, "method", scores, draws),
        "by_kind": {kind: _auc(scores, part & (kinds == kind), made, draws).as_dict() for kind in KINDS},
        "verdicts": _verdicts(made, verdicts, part),
        "decided": _decided(made, verdicts, part),
        "false_alarms": {
            "all real files": _alarms(verdicts, real),
            **{
                name: _alarms(verdicts, real & inside)
                for name, inside in _groups(made, "dataset").items()
                if (real & inside).any()
            },
        },
        "faces": _faces(made, fold, models, np.where(silent, np.nan, scores), seed),
        "interval": _coverage(answers, made, part & ~silent),
        "apart": _apart(fit(made, options), apart, scores[heard], draws[:, heard], seed) if apart else {},
        "robustness": {step: _perturbed(one, made, fold, fits, draws) for step, one in (perturbed or {}).items()},
        "bounds": [{"threshold": one.threshold, "real_below": one.real_below} for one in models],
        "scores": [
            {"path": row.get("path"), "label": row["label"], "score": None if quiet else round(float(score), 6),
             "verdict": verdict, "fold": int(number)}
            for row, score, quiet, verdict, number in zip(made.rows, scores, silent, verdicts, fold, strict=True)
        ],
    }  # fmt: skip


def _draws(made: Examples, seed: int) -> Floats:
    """How often each file is in each resample of sources, (RESAMPLES, F)."""
    rng = np.random.default_rng(seed)
    return np.stack([made.resample(rng) for _ in range(RESAMPLES)])


def _resampled(scores: Floats, part: Bools, made: Examples, draws: Floats) -> tuple[float, Floats]:
    """AUC on the files of `part`, and in each resample that has both classes; NaN where one is missing."""
    fake, real = part & (made.label == 1), part & (made.label == 0)
    return _area(scores[fake], scores[real], draws[:, fake], draws[:, real])


def _area(fakes: Floats, reals: Floats, fake_draws: Floats, real_draws: Floats) -> tuple[float, Floats]:
    if not len(fakes) or not len(reals):
        return np.nan, np.full(len(fake_draws), np.nan)
    gap = fakes[:, None] - reals[None]
    wins = (gap > 0) + 0.5 * (gap == 0)
    pairs = fake_draws.sum(1) * real_draws.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.einsum("bi,ij,bj->b", fake_draws, wins, real_draws, optimize=True) / pairs
    return float(wins.mean()), values


def _estimate(value: float, values: Floats, count: int) -> Estimate:
    usable = values[np.isfinite(values)]
    if not np.isfinite(value) or len(usable) < len(values) / 2:
        return Estimate(value if np.isfinite(value) else None, None, None, count)
    low, high = np.quantile(usable, [0.025, 0.975])
    return Estimate(value, float(low), float(high), count)


def _auc(scores: Floats, part: Bools, made: Examples, draws: Floats) -> Estimate:
    return _estimate(*_resampled(scores, part, made, draws), int(part.sum()))


def _against(fused: Floats, single: Floats, part: Bools, made: Examples, draws: Floats) -> dict[str, Any]:
    """A score alone and the fused one, both on the files for which the first has a value; and their difference."""
    both = part & np.isfinite(single)
    ours, theirs = _resampled(fused, both, made, draws), _resampled(single, both, made, draws)
    count = int(both.sum())
    return {
        "auc": _estimate(*theirs, count).as_dict(),
        "fused": _estimate(*ours, count).as_dict(),
        "difference": _estimate(ours[0] - theirs[0], ours[1] - theirs[1], count).as_dict(),
    }


def _best(fused: Floats, singles: dict[str, Floats], part: Bools, made: Examples, draws: Floats) -> dict[str, Any]:
    """The detector of the highest AUC over all files, NEUTRAL where it is silent. Chosen on what it is measured on,
    which favours it."""
    filled = {n: np.where(np.isfinite(values), values, NEUTRAL) for n, values in singles.items() if n != MEAN}
    aucs = {name: _resampled(values, part, made, draws)[0] for name, values in filled.items()}
    name = max(aucs, key=lambda key: aucs[key])
    return {"name": name, "silent_counts_as": NEUTRAL, **_against(fused, filled[name], part, made, draws)}


KINDS = ("image", "video")


def _kinds(made: Examples) -> NDArray[np.str_]:
    stills = {".jpg", ".jpeg", ".png", ".webp", ".heic"}
    suffixes = [PurePath(row.get("path") or "").suffix.lower() for row in made.rows]
    return np.array(["image" if suffix in stills else "video" for suffix in suffixes])


def _groups(made: Examples, key: str) -> dict[str, Bools]:
    values = np.array([row.get(key) or "" for row in made.rows])
    return {str(name): values == name for name in np.unique(values) if name}


def _apart(fitted: Fitted, apart: Examples, reals: Floats, real_draws: Floats, seed: int) -> dict[str, Any]:
    """Each data set's fakes against the cross-fitted scores of real files, of such kinds of media; and its verdicts."""
    answers, draws = answer(fitted, apart), _draws(apart, seed)
    heard = np.array([one is not None for one in answers]) & (apart.label == 1)
    scores = np.array([np.nan if one is None else one.score for one in answers])
    found: dict[str, Any] = {}
    for name, inside in {"all": heard, **_groups(apart, "dataset")}.items():
        if (chosen := inside & heard).any():
            kept = [one for one, keep in zip(answers, chosen, strict=True) if keep and one]
            verdicts = Counter(fitted.model.decide(one.score, one.interval) for one in kept)
            area = _area(scores[chosen], reals, draws[:, chosen], real_draws)
            figures = _estimate(*area, len(kept) + len(reals)).as_dict()
            found[name] = {"fakes": len(kept), **figures, "verdicts": dict(verdicts)}
    return found


def _perturbed(after: Examples, made: Examples, fold: Ints, fits: Sequence[Fitted], draws: Floats) -> dict[str, Any]:
    """By kind of media: AUC of those files that the figures take, real ones called fake of all, and fakes found."""
    place = {row["sha256"]: number for number, row in enumerate(made.rows) if row.get("sha256")}
    rows = np.array([place.get(row.get("sha256"), -1) for row in after.rows], np.int64)
    scores, called = np.full(len(made), np.nan), np.zeros(len(made), np.bool_)
    for number, fitted in enumerate(fits):
        held = (rows >= 0) & (fold[rows] == number)
        for file, one in zip(rows[held], answer(fitted, after.take(held)), strict=True):
            if one is not None:
                scores[file], called[file] = one.score, fitted.model.decide(one.score, one.interval) == "fake"
    found = {}
    for kind in KINDS:
        inside = np.isfinite(scores) & (_kinds(made) == kind)
        reals, fakes = (called[inside & (made.label == label)] for label in (0, 1))
        found[kind] = {
            "auc": _auc(scores, inside & made.stacked, made, draws).as_dict(),
            "false_alarms": proportion(int(reals.sum()), len(reals)).as_dict(),
            "fakes_found": proportion(int(fakes.sum()), len(fakes)).as_dict(),
        }
    return found


def _by(made: Examples, key: str, scores: Floats, draws: Floats) -> dict[str, Any]:
    """Each group's fakes against the real files of the same kind of media, whatever their group."""
    found = {}
    kinds = _kinds(made)
    for name, inside in _groups(made, key).items():
        fakes = made.stacked & inside & (made.label == 1)
        if fakes.any():
            reals = made.stacked & (made.label == 0) & np.isin(kinds, kinds[fakes])
            found[name] = {"fakes": int(fakes.sum()), **_auc(scores, fakes | reals, made, draws).as_dict()}
    return found


def _verdicts(made: Examples, verdicts: Sequence[str], part: Bools) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row, verdict, inside in zip(made.rows, verdicts, part, strict=True):
        if inside:
            counts[f"{row.get('dataset', '')} {'fake' if row['label'] else 'real'}"][verdict] += 1
    return {name: dict(found) for name, found in sorted(counts.items())}


def _decided(made: Examples, verdicts: Sequence[str], part: Bools) -> dict[str, Any]:
    """Coverage, and the share of wrong verdicts with both classes weighing the same."""
    share = np.where(made.label == 1, 0.5 / made.label[part].sum(), 0.5 / (1 - made.label[part]).sum())
    given = np.array([verdict != "inconclusive" for verdict in verdicts]) & part
    wrong = given & (np.array([verdict == "fake" for verdict in verdicts]) != (made.label == 1))
    covered = float(share[given].sum())
    return {
        "coverage": round(covered, 4),
        "risk": round(float(share[wrong].sum()) / covered, 4) if covered else None,
        "wrong": proportion(int(wrong.sum()), int(given.sum())).as_dict(),
    }


def _alarms(verdicts: Sequence[str], inside: Bools) -> dict[str, Any]:
    called = [verdict == "fake" for verdict, chosen in zip(verdicts, inside, strict=True) if chosen]
    return proportion(sum(called), len(called)).as_dict()


def _faces(
    made: Examples, fold: Ints, models: Sequence[FusionModel], scores: Floats, seed: int
) -> dict[str, dict[str, float]]:
    """Files put together from real files' faces: how many reach the threshold, joined as in use and by the maximum."""
    rng = np.random.default_rng(seed)
    real = (made.label == 0) & np.isfinite(scores)
    pools = [scores[real & (fold == number)] for number in range(len(models))]
    usable = [number for number, pool in enumerate(pools) if len(pool)]
    found = {}
    for count in FACES:
        joined = maximum = 0
        for draw in range(DRAWS):
            number = usable[draw % len(usable)]
            faces = [float(score) for score in rng.choice(pools[number], count)]
            joined += join(faces) >= models[number].threshold
            maximum += max(faces) >= models[number].threshold
        found[str(count)] = {"joined": round(joined / DRAWS, 4), "maximum": round(maximum / DRAWS, 4)}
    return found


def _coverage(answers: Sequence[Answer], made: Examples, part: Bools) -> dict[str, Any]:
    """Fifths of the files by score: does the mean interval hold the share of fakes, at even odds?"""
    scores, ends = np.array([one.score for one in answers]), np.array([one.interval for one in answers])
    kept = np.flatnonzero(part)
    order = kept[np.argsort(scores[kept], kind="stable")]
    mass = 1 / np.bincount(made.label[part], minlength=2)[made.label]
    fifths = []
    for group in np.array_split(order, 5):
        low, high = ends[group].mean(0)
        share = float(mass[group][made.label[group] == 1].sum() / mass[group].sum())
        fifths.append({"low": round(float(low), 4), "high": round(float(high), 4), "fakes": round(share, 4)})
    inside = sum(one["low"] <= one["fakes"] <= one["high"] for one in fifths)
    width = float((ends[kept, 1] - ends[kept, 0]).mean())
    return {"mean_width": round(width, 4), "fifths_inside": inside, "fifths": fifths}


def _ece(scores: Floats, labels: Ints) -> float:
    """With both classes weighing the same: the rarer class's files are repeated."""
    fake, real = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    size = min(int(np.lcm(len(fake), len(real))), 10**6)
    picked = np.concatenate([np.resize(fake, size), np.resize(real, size)])
    return round(expected_calibration_error(labels[picked].astype(np.float64), scores[picked]), 4)
