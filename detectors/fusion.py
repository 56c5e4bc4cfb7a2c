"""The fused score: a stack of the detectors' calibrated logits, weakened by poor quality, tolerant of missing ones.

For one face the fused log-odds, under an even prior, are

    bias + f * sum of weight_d * l_d over the detectors that gave a score

with l_d the calibrated logit of detector d, weight_d >= 0, and f > 0 a factor that does not look at any score: quality
shrinks it (exp of minus the measures of detectors.quality, each with a rate >= 0), and where detectors are missing the
rest speak for them, (all weights / weights present) ** sharing. So the score never falls when a detector's rises, and
the addends that are shown add up to it. train/stacking.py fits it; docs/decisions/0006 says why it is so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from detectors.quality import MEASURES, vector
from preprocessing.settings import Strict

SHIPPED = Path(__file__).parent / "weights" / "fusion.json"
LOGIT_LIMIT = 8.0
"""Calibrated logits are clipped here (odds of 3000 to 1): no detector is surer than its data could show."""
FLOOR = 0.1
"""Added to both sums of weights where detectors are missing, so that one of hardly any weight cannot speak for all."""
DIGITS = 12
"""Hexadecimal digits of a file's sha256 that are kept of what a fit saw."""

Floats = NDArray[np.float64]


class Selection(Strict):
    """How the bounds of the verdict were set, on cross-fitted scores of files with both classes weighing the same."""

    risk: float = Field(gt=0, lt=1, description="asked: share of wrong ones among 'fake', and among 'real'")
    false_alarms: float = Field(gt=0, lt=1, description="asked: share of real files called fake")
    bound: float = Field(description="the share of false alarms that so many real files can vouch for")
    fake_risk: float = Field(description="share of wrong ones among 'fake' that can be vouched for")
    real_risk: float | None = Field(description="the same among 'real'; None where there is no such verdict")
    risk_found: float | None = Field(description="wrong among the decided; None where nothing was decided")
    coverage: float = Field(description="share of the files that got a verdict")
    reals: int
    fakes: int
    curve: list[tuple[float, float]] = Field(description="risk-coverage curve: share decided, share wrong of these")


class FusionModel(Strict):
    """A fitted stacker. `weights` are not negative: a detector may be ignored, never turned round."""

    weights: dict[str, float]
    bias: float
    shrink: dict[str, float] = Field({}, description="rate a measure of quality, see detectors.quality; not negative")
    sharing: float = Field(0.0, ge=0, le=1, description="how far detectors that are there speak for missing ones")
    bootstrap: list[list[float]] = Field(
        description="refits on resampled sources: the weights, the bias; then, all or none, what each detector's "
        "refitted calibration adds, the rate a measure in the order of MEASURES, the sharing"
    )
    level: float = Field(0.95, gt=0, lt=1, description="share of the refits that the interval holds")
    threshold: float = Field(0.6, gt=0, lt=1, description="from here on a file is called fake")
    real_below: float = Field(0.4, ge=0, lt=1, description="up to here it is called real; 0: never")
    selection: Selection | None = Field(None, description="how the two were set")
    fitted_on: str
    n: int = Field(description="files")
    sources: int | None = Field(None, description="independent sources among them")
    for_weights: dict[str, str] = Field(description="sha256 of the detector weights that it was fitted for")
    blind_to: str = Field("", description="a sentence on what these detectors do not see, told with every 'real'")
    saw: list[str] = Field([], description="first digits of the sha256 of every file that anything was fitted on")

    @model_validator(mode="after")
    def _consistent(self) -> FusionModel:
        detectors = len(self.weights)
        lengths = {detectors + 1, 2 * detectors + 2 + len(MEASURES)}
        if any(len(row) not in lengths for row in self.bootstrap):
            raise ValueError("a refit in bootstrap has another length than the weights call for")
        if min([*self.weights.values(), *self.shrink.values(), 0.0]) < 0:
            raise ValueError("weights and rates of shrinkage are not negative")
        if self.real_below >= self.threshold:
            raise ValueError(f"real_below {self.real_below} is not below the threshold {self.threshold}")
        return self

    def decide(self, score: float, interval: tuple[float, float]) -> Literal["fake", "real", "inconclusive"]:
        """What a file's score and interval carry, whatever else is known of the file."""
        if score >= self.threshold and interval[0] > self.real_below:
            return "fake"
        return "real" if score <= self.real_below and interval[1] < self.threshold else "inconclusive"

    @cached_property
    def _rows(self) -> Floats:
        """Point fit first, then the refits, all in the long form."""
        count = len(self.weights)
        tail = [*[0.0] * count, *vector(self.shrink), self.sharing]
        point = [*self.weights.values(), self.bias, *tail]
        refits = [row if len(row) > count + 1 else [*row, *tail] for row in self.bootstrap]
        return np.array([point, *refits], np.float64)


@dataclass(frozen=True)
class Fused:
    """`score` and `interval` in 0..1; `contributions`: each detector's signed addend of the fused logit, which is their
    sum and the model's bias; `factor` in 0..1: what the face's quality leaves of the detectors' say."""

    score: float
    interval: tuple[float, float]
    contributions: dict[str, float]
    factor: float = 1.0


def load_fusion(path: Path = SHIPPED) -> FusionModel | None:
    """The fitted stacker, None where none was fitted yet."""
    if not path.is_file():
        return None
    return FusionModel.model_validate(json.loads(path.read_text(encoding="utf-8")))


def save_fusion(model: FusionModel, path: Path = SHIPPED) -> None:
    """As JSON, one line a field and a line a refit: short, and a change can be read."""
    fields = model.model_dump(mode="json")
    refits = ",\n  ".join(json.dumps(row) for row in fields["bootstrap"])
    lines = [
        f' "{key}": [\n  {refits}\n ]' if key == "bootstrap" and refits else f' "{key}": {json.dumps(value)}'
        for key, value in fields.items()
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def fitted_overlap(shas: Iterable[str], path: Path = SHIPPED) -> list[str]:
    """Those of these sha256 that the shipped calibrations and fusion were fitted on, in the order given.

    Figures on such files flatter: `python -m train.calibrate crossfit` measures without that.
    """
    model = load_fusion(path)
    saw = set(model.saw) if model else set()
    return [sha for sha in shas if sha[:DIGITS] in saw]


def logit(score: float) -> float:
    """Log-odds of a score, clipped to +-LOGIT_LIMIT."""
    return float(np.clip(log_odds(score), -LOGIT_LIMIT, LOGIT_LIMIT))


def log_odds(score: float) -> float:
    """Log-odds of a score, finite for 0 and 1 too."""
    clipped = min(max(score, 1e-15), 1 - 1e-15)
    return float(np.log(clipped / (1 - clipped)))


def sigmoid(value: float) -> float:
    """Probability of log-odds."""
    return float(0.5 * (1 + np.tanh(value / 2)))


def fuse(model: FusionModel, scores: Mapping[str, float], quality: Mapping[str, float] | None = None) -> Fused | None:
    """One probability from the calibrated scores of the detectors that gave one, for one face.

    `quality`: the face's measures (detectors.quality.measure), good where absent. None where no detector that the
    model gives any weight has a score.
    """
    if not any(model.weights[name] > 0 for name in model.weights if name in scores):
        return None
    names = list(model.weights)
    present = np.array([name in scores for name in names], np.float64)
    logits = np.array([logit(scores[name]) if name in scores else 0.0 for name in names])
    poor = np.array(vector(quality or {}))
    count = len(names)
    weights, bias, offsets = model._rows[:, :count], model._rows[:, count], model._rows[:, count + 1 : 2 * count + 1]
    shrinkage = np.exp(-model._rows[:, 2 * count + 1 : -1] @ poor)
    missing = ((weights.sum(1) + FLOOR) / (weights @ present + FLOOR)) ** model._rows[:, -1]
    factor = shrinkage * missing
    totals = bias + factor * ((weights * logits + offsets) @ present)
    contributions = {
        name: float(factor[0] * weights[0, i] * logits[i]) + 0.0  # never -0.0, which would be shown
        for i, name in enumerate(names)
        if name in scores
    }
    total = model.bias + sum(contributions.values())
    tail = (1 - model.level) / 2
    low, high = np.quantile(totals[1:], [tail, 1 - tail]) if len(totals) > 1 else (total, total)
    # The point estimate belongs to its own interval even where the resamples are skewed.
    interval = (sigmoid(min(low, total)), sigmoid(max(high, total)))
    return Fused(sigmoid(total), interval, contributions, float(shrinkage[0]))


def join(scores: Sequence[float]) -> float:
    """One probability for a file from its faces' fused scores: the odds' arithmetic mean.

    If one of the m people may be manipulated, each as likely as the others, the file's likelihood ratio is the mean of
    theirs. Under 'all are real' that mean is 1 for any m, however the faces depend on each other (an average of
    e-values; Vovk and Wang, Annals of Statistics 2021), where the maximum grows with m. It lies between the
    maximum less log(m) and the maximum, in log-odds; a single face keeps its score. Raises ValueError without scores.
    """
    if not len(scores):
        raise ValueError("there are no scores to join")
    if len(scores) == 1:
        return float(scores[0])
    values = np.array([log_odds(score) for score in scores])
    return sigmoid(float(np.logaddexp.reduce(values) - np.log(len(values))))
