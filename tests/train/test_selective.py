"""The bounds of the verdict hold the stated risk and rate of false alarms on files that they were not set on."""

import numpy as np
import pytest

from train.selective import risk_coverage, select


def scored(files: int, seed: int, gap: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, files)
    return 1 / (1 + np.exp(-(labels - 0.5) * gap * 1.5 - rng.normal(0, 1.5, files))), labels


@pytest.mark.parametrize("files", [100, 1000])
def test_on_fresh_files_risk_and_false_alarms_are_as_stated(files: int) -> None:
    wrong, alarms, decided = [], [], []
    for seed in range(60):
        scores, labels = scored(files, seed)
        ones = np.ones(files)
        found = select(scores, labels, ones, ones > 0, risk=0.05, false_alarms=0.02)
        fresh, truth = scored(2000, 1000 + seed)
        fake, real = fresh >= found.threshold, fresh <= found.real_below
        decided.append((fake | real).mean())
        wrong.append(((fake & (truth == 0)) | (real & (truth == 1))).sum() / max((fake | real).sum(), 1))
        alarms.append(fake[truth == 0].mean())
    # What is promised holds in the mean over calibration sets; four standard errors are left for these sixty.
    assert np.mean(wrong) <= 0.05
    assert np.mean(alarms) <= max(0.02, 1 / (0.4 * files)) + 4 * np.std(alarms) / np.sqrt(60)
    assert np.mean(decided) > (0.25 if files == 100 else 0.75)


def test_a_smaller_risk_leaves_more_undecided() -> None:
    scores, labels = scored(1000, 0, gap=2)
    ones = np.ones(1000)
    bands = [select(scores, labels, ones, ones > 0, risk=risk, false_alarms=0.2) for risk in (0.02, 0.05, 0.2)]
    assert bands[0].threshold >= bands[1].threshold >= bands[2].threshold
    assert bands[0].real_below <= bands[1].real_below <= bands[2].real_below
    assert bands[0].selection.coverage < bands[2].selection.coverage
    assert all(one.selection.risk_found is not None and one.selection.risk_found <= one.selection.risk for one in bands)


def test_scores_that_say_nothing_get_hardly_a_verdict_and_the_card_says_so() -> None:
    rng = np.random.default_rng(0)
    scores, labels, ones = rng.random(400), rng.integers(0, 2, 400), np.ones(400)
    found = select(scores, labels, ones, ones > 0, risk=0.05, false_alarms=0.02)
    assert found.real_below == 0 and found.selection.real_risk is None
    assert found.selection.fake_risk > 0.05 and found.selection.coverage < 0.05


def test_few_real_files_cannot_vouch_for_few_false_alarms() -> None:
    scores, labels = scored(40, 1)
    found = select(scores, labels, np.ones(40), np.ones(40) > 0, risk=0.2, false_alarms=0.02)
    assert found.threshold > scores[labels == 0].max()
    assert (
        found.selection.bound == pytest.approx(1 / ((labels == 0).sum() + 1), abs=1e-4) and found.selection.bound > 0.02
    )


def test_reserved_real_files_raise_the_threshold_and_withheld_fakes_do_not_count() -> None:
    scores, labels = scored(400, 0)
    ones = np.ones(400)
    alone = select(scores, labels, ones, ones > 0, risk=0.05, false_alarms=0.02)
    more = np.concatenate([scores, np.full(30, 0.97)])
    both = np.concatenate([labels, np.zeros(30, np.int64)])
    part = np.arange(430) < 400
    assert select(more, both, np.ones(430), part, risk=0.05, false_alarms=0.02).threshold > max(alone.threshold, 0.97)
    withheld = np.concatenate([labels, np.ones(30, np.int64)])
    same = select(
        np.concatenate([scores, np.full(30, 0.01)]), withheld, np.ones(430), part, risk=0.05, false_alarms=0.02
    )
    assert (same.threshold, same.real_below) == pytest.approx((alone.threshold, alone.real_below), abs=0.02)


def test_the_curve_ends_at_the_error_of_deciding_always() -> None:
    logits, labels = np.array([-3.0, -1.0, 0.5, 2.0]), np.array([0, 1, 0, 1])
    curve = risk_coverage(logits, labels, np.full(4, 0.25))
    assert curve == [(0.25, 0.0), (0.5, 0.0), (0.75, 0.3333), (1.0, 0.5)]


def test_where_some_fakes_would_pass_as_real_no_file_is_called_so() -> None:
    scores, labels = scored(1000, 0)
    ones = np.ones(1000)
    both, fake = (
        select(scores, labels, ones, ones > 0, risk=0.1, false_alarms=0.1, never_real=never) for never in (False, True)
    )
    assert both.real_below > 0 and fake.real_below == 0
    assert fake.threshold == both.threshold and fake.selection.coverage < both.selection.coverage
