"""Classical classifiers on embeddings: fitted by scikit-learn, kept as plain arrays, scored by numpy alone.

The settings are those of "Detecting Deepfakes with Metric Learning" (arXiv 2003.08645; section 11 of its
specification); the support vector machine is not among the paper's. Class 1 is fake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

Kind = Literal["sgd_hinge", "sgd_log", "logistic", "perceptron", "svm", "knn", "decision_tree", "random_forest"]
KINDS: tuple[Kind, ...] = get_args(Kind)
NEIGHBOURS = 10
FORMAT = "unmask.classifier/1"
ROWS_AT_ONCE = 256
"""Of distances to all stored rows."""

_LINEAR_KINDS: tuple[Kind, ...] = ("sgd_hinge", "sgd_log", "logistic", "perceptron")
_LINEAR = {"weight", "bias"}
_TREES = {"root", "left", "right", "feature", "threshold", "fake"}
_ARRAYS: dict[Kind, set[str]] = {
    **dict.fromkeys(_LINEAR_KINDS, _LINEAR),
    "svm": {"support", "weight", "bias", "gamma"},
    "knn": {"rows", "fake", "neighbours"},
    "decision_tree": _TREES,
    "random_forest": _TREES,
}

Floats = NDArray[np.float64]


class ClassifierError(ValueError):
    """Data that cannot be fitted or scored, or a file that is no classifier; the message says which and why."""


@dataclass(frozen=True)
class Classifier:
    """A fitted classifier: its kind and its arrays. Scores equal scikit-learn's to 1e-6."""

    kind: Kind
    arrays: Mapping[str, NDArray[Any]]

    def decision(self, x: NDArray[np.floating]) -> Floats:
        """Signed (N,), above 0 means fake: scikit-learn's decision function, else P(fake) - 1/2. `x` (N, D)."""
        rows = _rows(x, self.dimension)
        if self.kind in _LINEAR_KINDS:
            return rows @ self.arrays["weight"] + float(self.arrays["bias"][0])
        if self.kind == "svm":
            return self._kernel(rows)
        return self._share(rows) - 0.5

    def probability(self, x: NDArray[np.floating]) -> Floats:
        """P(fake) (N,) in 0..1. ClassifierError for sgd_hinge, perceptron and svm, which have a margin and none."""
        if self.kind in ("sgd_hinge", "perceptron", "svm"):
            raise ClassifierError(f"{self.kind} has a margin and no probability; take decision() or score()")
        if self.kind in ("knn", "decision_tree", "random_forest"):
            return self._share(_rows(x, self.dimension))
        return _sigmoid(self.decision(x))

    def score(self, x: NDArray[np.floating]) -> Floats:
        """0..1, above 1/2 means fake: P(fake) where there is one, else the sigmoid of the margin (no probability)."""
        if self.kind in ("sgd_hinge", "perceptron", "svm"):
            return _sigmoid(self.decision(x))
        return self.probability(x)

    def predict(self, x: NDArray[np.floating]) -> NDArray[np.int64]:
        """Labels (N,), 1 fake; on the border 0, as in scikit-learn."""
        return (self.decision(x) > 0).astype(np.int64)

    @property
    def dimension(self) -> int:
        """D of the embeddings it was fitted on; for trees, what their splits need at least."""
        if self.kind in _LINEAR_KINDS:
            return len(self.arrays["weight"])
        if self.kind == "svm":
            return int(self.arrays["support"].shape[1])
        return int(self.arrays["rows"].shape[1]) if self.kind == "knn" else int(self.arrays["dimension"][0])

    def save(self, path: Path) -> None:
        """As safetensors."""
        content = {key: np.ascontiguousarray(value) for key, value in self.arrays.items()}
        safetensors.numpy.save_file(content, path, {"format": FORMAT, "kind": self.kind})

    @classmethod
    def load(cls, path: Path) -> Classifier:
        """Raises ClassifierError for a file that `save` did not write."""
        try:
            with safetensors.safe_open(path, "numpy") as file:
                metadata = file.metadata() or {}
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (OSError, safetensors.SafetensorError) as error:
            raise ClassifierError(f"{path} cannot be read as a classifier: {error}") from None
        kind = metadata.get("kind")
        if metadata.get("format") != FORMAT or kind not in KINDS or set(arrays) - {"dimension"} != _ARRAYS[kind]:
            raise ClassifierError(f"{path} is no classifier that unmask saved ({FORMAT})")
        return cls(kind, arrays)

    def _kernel(self, rows: Floats) -> Floats:
        a = self.arrays
        parts = [
            np.exp(-float(a["gamma"][0]) * _squared(part, a["support"])) @ a["weight"] + float(a["bias"][0])
            for part in _parts(rows)
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _share(self, rows: Floats) -> Floats:
        a = self.arrays
        if self.kind != "knn":
            return _trees(a, rows)
        k = int(a["neighbours"][0])
        parts = [
            a["fake"][np.argpartition(_squared(part, a["rows"]), k - 1, axis=1)[:, :k]].mean(1) for part in _parts(rows)
        ]
        return np.concatenate(parts) if parts else np.zeros(0)


def fit(kind: Kind, x: NDArray[np.floating], labels: NDArray[Any], seed: int = 0) -> Classifier:
    """Fit to embeddings `x` (N, D) with `labels` (N,), 0 real and 1 fake; `seed` of whatever the kind draws.

    Raises ClassifierError for an unknown kind, rows that are not finite, or labels of one class only.
    """
    if kind not in KINDS:
        raise ClassifierError(f"there is no classifier {kind!r}; there are {', '.join(KINDS)}")
    rows, y = _rows(x), np.asarray(labels)
    if y.shape != (len(rows),) or set(np.unique(y).tolist()) != {0, 1}:
        raise ClassifierError(f"{len(rows)} embeddings need as many labels, both 0 (real) and 1 (fake)")
    y = y.astype(np.int64)
    if kind == "knn" and len(rows) < NEIGHBOURS:
        raise ClassifierError(f"knn looks at {NEIGHBOURS} neighbours, and there are {len(rows)} embeddings")
    model = _estimator(kind, seed).fit(rows, y)
    return Classifier(kind, _KEPT[kind](model, rows, y))


def _estimator(kind: Kind, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression, Perceptron, SGDClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    made: dict[Kind, Callable[[], Any]] = {
        "sgd_hinge": lambda: SGDClassifier(loss="hinge", max_iter=50, tol=None, random_state=seed),
        "sgd_log": lambda: SGDClassifier(loss="log_loss", max_iter=50, tol=None, random_state=seed),
        "logistic": lambda: LogisticRegression(random_state=seed),
        "perceptron": lambda: Perceptron(max_iter=15, random_state=seed),
        "svm": lambda: SVC(kernel="rbf"),
        "knn": lambda: KNeighborsClassifier(NEIGHBOURS),
        "decision_tree": lambda: DecisionTreeClassifier(random_state=seed),
        "random_forest": lambda: RandomForestClassifier(100, random_state=seed),
    }
    return made[kind]()


def _keep_linear(model: Any, rows: Floats, y: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    return {"weight": model.coef_[0].astype(np.float64), "bias": model.intercept_.astype(np.float64)}


def _keep_svm(model: Any, rows: Floats, y: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    # gamma="scale", the default: one over the dimension times the variance of all values.
    gamma = np.array([1 / (rows.shape[1] * rows.var())])
    return {
        "support": model.support_vectors_, "weight": model.dual_coef_[0], "bias": model.intercept_, "gamma": gamma
    }  # fmt: skip


def _keep_knn(model: Any, rows: Floats, y: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    return {"rows": rows, "fake": y.astype(np.float64), "neighbours": np.array([NEIGHBOURS])}


def _keep_trees(model: Any, rows: Floats, y: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    trees = [one.tree_ for one in getattr(model, "estimators_", [model])]
    root = np.cumsum([0, *(tree.node_count for tree in trees[:-1])])

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(tree, name) for tree in trees])

    def child(name: str) -> NDArray[np.int64]:
        parts = [getattr(tree, name) for tree in trees]
        return np.concatenate([np.where(p < 0, -1, p + at) for p, at in zip(parts, root, strict=True)]).astype(np.int64)

    value = joined("value")[:, 0, :]
    return {
        "root": root.astype(np.int64),
        "left": child("children_left"),
        "right": child("children_right"),
        "feature": np.maximum(joined("feature"), 0).astype(np.int64),
        "threshold": joined("threshold").astype(np.float64),
        "fake": value[:, 1] / value.sum(1),
        "dimension": np.array([rows.shape[1]]),
    }


_KEPT: dict[Kind, Callable[[Any, Floats, NDArray[np.int64]], dict[str, NDArray[Any]]]] = {
    **dict.fromkeys(_LINEAR_KINDS, _keep_linear),
    "svm": _keep_svm,
    "knn": _keep_knn,
    "decision_tree": _keep_trees,
    "random_forest": _keep_trees,
}


def _trees(a: Mapping[str, NDArray[Any]], rows: Floats) -> Floats:
    """Mean over the trees of the share of fakes in the leaf that a row falls into."""
    values = rows.astype(np.float32)  # scikit-learn compares single-precision values with double thresholds
    node = np.repeat(a["root"][None], len(rows), axis=0)
    index = np.arange(len(rows))[:, None]
    while (inner := a["left"][node] >= 0).any():
        low = values[index, a["feature"][node]] <= a["threshold"][node]
        node = np.where(inner, np.where(low, a["left"][node], a["right"][node]), node)
    share: Floats = a["fake"][node].mean(1)
    return share


def _rows(x: NDArray[np.floating], dimension: int | None = None) -> Floats:
    rows = np.asarray(x, np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ClassifierError(f"embeddings are finite numbers (N, D), not {rows.shape}")
    if dimension is not None and rows.shape[1] != dimension:
        raise ClassifierError(f"fitted on embeddings of {dimension} numbers, given {rows.shape[1]}")
    return rows


def _parts(rows: Floats) -> list[Floats]:
    return [rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE)]


def _squared(a: Floats, b: Floats) -> Floats:
    found: Floats = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)
    return np.maximum(found, 0)


def _sigmoid(value: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(value, -700, 700)))
