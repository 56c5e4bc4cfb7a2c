"""A network of a few dozen weights and samples that it can tell apart: what the tests of training train."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detectors.base import Detector, DetectorConfig, DetectorOutput
from train.loop import TrainResult, train
from train.recipe import DataSplits, EpochDataset, Recipe


class Plain(Detector):
    """No batch norm and no dropout: what several batches or ranks learn is what one does, up to rounding."""

    name = "plain"

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__()
        self.config = config or DetectorConfig()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))

    def prepare(self, samples: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.asarray(samples, np.float32))

    def forward(self, batch: Tensor) -> DetectorOutput:
        return DetectorOutput(logit=self.body(batch).squeeze(1))


class Small(Plain):
    """With batch norm and dropout."""

    name = "small"

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1))


class Pairs(EpochDataset):
    """Real samples around 0, fakes shifted by one in two of six dimensions; item `broken` holds no number."""

    def __init__(self, count: int, seed: int, broken: int | None = None) -> None:
        self.count, self.seed, self.broken = count, seed, broken

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, self.epoch, index])
        real, fake = rng.normal(size=(2, 6)).astype(np.float32)
        fake[:2] += np.nan if index == self.broken else 1
        return {"inputs": np.stack([real, fake]), "label": np.array([0, 1], np.float32)}


def recipe(**changes: Any) -> Recipe:
    base = {"name": "small", "detector": "small", "data": {"kind": "faces"}, "epochs": 4, "batch": 16, "seed": 3}
    return Recipe.model_validate({**base, "optimiser": {"lr": 0.02}, **changes})


def run(
    folder: Path, settings: Recipe | None = None, *, kind: type[Detector] = Small, data: DataSplits | None = None,
    **options: Any,
) -> TrainResult:  # fmt: skip
    settings = settings or recipe()
    torch.manual_seed(settings.seed)
    splits = data or DataSplits(Pairs(200, 1), Pairs(100, 2), {})
    return train(kind(), splits, settings, folder, **options)


def weights(result: TrainResult) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in result.detector.state_dict().items()}


def assert_equal_weights(one: TrainResult, other: TrainResult) -> None:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
