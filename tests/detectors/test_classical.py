"""Classical classifiers: our arrays score as scikit-learn does, and come back from disk."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from detectors import classical
from detectors.classical import KINDS, Classifier, ClassifierError, Kind, fit


def data(count: int = 300, dimension: int = 16, seed: int = 0) -> tuple[Any, Any]:
    """Two overlapping clouds, single precision, as embeddings are."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    x = random.normal(0, 1, (count, dimension)) + 0.6 * labels[:, None] * (np.arange(dimension) % 3 == 0)
    return x.astype(np.float32), labels


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_scikit_learns(kind: Kind) -> None:
    x, labels = data()
    unseen, _ = data(seed=1)
    ours = fit(kind, x, labels, seed=3)
    theirs = classical._estimator(kind, 3).fit(x.astype(np.float64), labels)
    given = unseen.astype(np.float64)
    assert np.array_equal(ours.predict(unseen), theirs.predict(given))
    assert 0.6 < (ours.predict(unseen) == data(seed=1)[1]).mean() <= 1
    if hasattr(theirs, "decision_function"):
        assert np.allclose(ours.decision(unseen), theirs.decision_function(given), atol=1e-6, rtol=0)
    if kind in ("sgd_hinge", "perceptron", "svm"):
        with pytest.raises(ClassifierError, match="has a margin and no probability"):
            ours.probability(unseen)
    else:
        assert np.allclose(ours.probability(unseen), theirs.predict_proba(given)[:, 1], atol=1e-6, rtol=0)
    score = ours.score(unseen)
    assert score.min() >= 0 and score.max() <= 1
    assert np.array_equal(score > 0.5, ours.predict(unseen) == 1)


@pytest.mark.parametrize("kind", KINDS)
def test_they_come_back_from_disk(kind: Kind, tmp_path: Path) -> None:
    x, labels = data(80, 5)
    made = fit(kind, x, labels)
    made.save(tmp_path / "one.safetensors")
    back = Classifier.load(tmp_path / "one.safetensors")
    assert back.kind == kind and back.dimension == 5
    assert np.array_equal(back.score(x), made.score(x))
    assert back.score(x[:0]).shape == (0,)
    with pytest.raises(ClassifierError, match="fitted on embeddings of 5 numbers, given 4"):
        back.score(x[:, :4])


@pytest.mark.parametrize("kind", KINDS)
def test_one_seed_gives_one_classifier(kind: Kind) -> None:
    x, labels = data(100, 4)
    first, second = fit(kind, x, labels, seed=5), fit(kind, x, labels, seed=5)
    assert all(np.array_equal(first.arrays[key], second.arrays[key]) for key in first.arrays)


def test_what_cannot_be_fitted_is_refused() -> None:
    x, labels = data(30, 4)
    with pytest.raises(ClassifierError, match="no classifier 'boosting'; there are sgd_hinge"):
        fit("boosting", x, labels)  # type: ignore[arg-type]
    with pytest.raises(ClassifierError, match="both 0 \\(real\\) and 1 \\(fake\\)"):
        fit("svm", x, np.ones(30))
    with pytest.raises(ClassifierError, match="finite numbers"):
        fit("svm", np.full((30, 4), np.nan), labels)
    with pytest.raises(ClassifierError, match="looks at 10 neighbours, and there are 6"):
        fit("knn", x[:6], np.arange(6) % 2)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"weight": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ClassifierError, match="is no classifier that unmask saved"):
        Classifier.load(tmp_path / "other.safetensors")
    with pytest.raises(ClassifierError, match="cannot be read"):
        Classifier.load(tmp_path / "none.safetensors")
