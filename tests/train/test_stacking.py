"""Calibrators and the stacker find what is true of a simulated world, and their interval covers it."""

import numpy as np
import pytest
from scipy.optimize import check_grad
from simulated_evaluations import DETECTORS, evaluation
from sklearn.isotonic import IsotonicRegression

from detectors.quality import MEASURES
from train.examples import BadRows, examples
from train.fitting import Options, answer, cross_scores, fit
from train.stacking import _forward, apply, calibrators, chain, fit_platt, fit_stack


def test_platt_recovers_a_known_scale_and_keeps_the_direction() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 4000)
    labels = (rng.random(4000) < 1 / (1 + np.exp(-(0.5 * logits + 0.0)))).astype(int)
    a, b = fit_platt(list(logits), list(labels))
    assert a == pytest.approx(0.5, abs=0.06) and b == pytest.approx(0, abs=0.1)
    assert fit_platt(-logits, labels)[0] == 0
    slope, none = fit_platt(logits, labels, temperature=True)
    assert slope == pytest.approx(0.5, abs=0.06) and none == 0


def test_the_gradient_of_the_stacker_is_its_own() -> None:
    rng = np.random.default_rng(0)
    logits, present = rng.normal(size=(6, 3)), (rng.random((6, 3)) > 0.3).astype(float)
    quality = rng.random((6, len(MEASURES)))
    theta = np.array([0.4, 0.2, 0.7, 0.1, *rng.random(len(MEASURES)), 0.6])
    for place in range(6):
        error = check_grad(
            lambda t, i=place: _forward(t, logits * present, present, quality)[0][i],
            lambda t, i=place: _forward(t, logits * present, present, quality)[1][i],
            theta,
        )
        assert error < 1e-5


def test_the_better_detector_gets_the_larger_weight_and_one_turned_round_gets_none() -> None:
    rows = evaluation(400, 40)
    for row in rows:
        row["tracks"][0]["logits"]["against"] = -row["tracks"][0]["logits"]["good"]
    found = chain(examples(rows, [*DETECTORS, "against"]), 5)
    weights = dict(zip(("against", *DETECTORS), found.stack.weights, strict=True))
    assert weights["good"] > weights["guess"] and weights["against"] == 0 and min(weights.values()) >= 0


def test_quality_that_weakens_the_evidence_is_found() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 2000)
    quality = np.zeros((2000, len(MEASURES)))
    quality[:, 1] = rng.random(2000) < 0.5
    evidence = (2 * labels - 1) * np.where(quality[:, 1] > 0, 0.4, 2.0) + rng.normal(size=2000)
    found = fit_stack(2 * evidence[:, None], quality, labels.astype(float), np.ones(2000))
    assert found.shrink[1] > 0.5 and np.delete(found.shrink, 1).max() < 0.05


def test_a_detector_without_scores_of_both_classes_has_no_calibration_and_says_nothing() -> None:
    rows = [*evaluation(20, 4, label=0), *evaluation(20, 4, seed=1, label=1)]
    for row in rows[:20]:
        del row["tracks"][0]["logits"]["guess"]
    made = examples(rows, DETECTORS)
    platts = calibrators(made, made.mass())
    assert platts[2] == (0.0, 0.0) and np.isnan(apply(platts, made.logits)[:, 2]).all()


def test_scores_missing_at_fitting_are_tolerated_and_the_fused_one_still_separates() -> None:
    fitted = fit(examples(evaluation(300, 30, missing=0.4), DETECTORS), Options(resamples=5))
    fresh = examples(evaluation(300, 30, seed=1, missing=0.4), DETECTORS)
    right = [
        (a is not None and a.score >= 0.5) == bool(y) for a, y in zip(answer(fitted, fresh), fresh.label, strict=True)
    ]
    assert np.mean(right) > 0.78


@pytest.mark.parametrize(("files", "sets"), [(60, 12), (300, 30)])
def test_the_interval_covers_what_endless_data_would_say_and_venn_abers_does_not(files: int, sets: int) -> None:
    fresh = examples(evaluation(200, 200, seed=98), DETECTORS)
    endless = chain(examples(evaluation(6000, 6000, seed=99), DETECTORS), 5)
    truth = 1 / (1 + np.exp(-endless.logit(fresh.logits, fresh.quality)))
    covered, venn_abers = [], []
    for seed in range(6):
        made = examples(evaluation(files, sets, seed=seed), DETECTORS)
        answers = [one for one in answer(fit(made, Options(resamples=50)), fresh) if one]
        low, high = np.array([one.interval for one in answers]).T
        covered.append(np.mean((low <= truth) & (truth <= high)))
        scores = cross_scores(made, Options())
        ends = [_venn_abers(scores, made.label, one.score) for one in answers[:30]]
        venn_abers.append(np.mean([a <= t <= b for (a, b), t in zip(ends, truth[:30], strict=True)]))
    assert np.mean(covered) > 0.8
    assert np.mean(venn_abers) < np.mean(covered) - 0.15


def _venn_abers(scores, labels, score) -> tuple[float, float]:
    """Inductive Venn-Abers (Vovk and Petej, UAI 2014): isotonic fits with the new score as real, then as fake."""
    fits = [
        IsotonicRegression(out_of_bounds="clip").fit([*scores, score], [*labels, label]).predict([score])[0]
        for label in (0, 1)
    ]
    return float(fits[0]), float(fits[1])


def test_few_sources_give_a_wider_interval_than_many() -> None:
    fresh = examples(evaluation(50, 50, seed=5), DETECTORS)
    widths = []
    for files, sets in ((40, 8), (600, 300)):
        found = answer(fit(examples(evaluation(files, sets), DETECTORS), Options(resamples=40)), fresh)
        widths.append(np.mean([one.interval[1] - one.interval[0] for one in found if one]))
    assert widths[0] > 1.5 * widths[1]


def test_cross_fitted_scores_do_not_know_their_own_source() -> None:
    """A data set whose labels are turned round: a fit that saw it would follow it, the cross-fitted score does not."""
    rows = evaluation(200, 20)
    victim = rows[0]["dataset"]
    before = cross_scores(examples(rows, DETECTORS), Options())
    turned = [{**row, "label": 1 - row["label"]} if row["dataset"] == victim else row for row in rows]
    made = examples(turned, DETECTORS)
    after = cross_scores(made, Options())
    inside = np.array([row["dataset"] == victim for row in rows])
    assert np.corrcoef(before[inside], after[inside])[0, 1] > 0.95


def test_too_few_sources_are_refused() -> None:
    with pytest.raises(BadRows, match="one source"):
        fit(examples(evaluation(20, 1), DETECTORS), Options(resamples=5))
