"""The training loop on a small but real problem: it learns, it repeats itself, it resumes, it can be stopped."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detectors.base import Detector, DetectorConfig, DetectorOutput
from train.loop import TrainResult, train
from train.recipe import DataSplits, EpochDataset, Recipe, RecipeError


class Small(Detector):
    name = "small"

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1))

    def prepare(self, samples: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.asarray(samples, np.float32))

    def forward(self, batch: Tensor) -> DetectorOutput:
        return DetectorOutput(logit=self.body(batch).squeeze(1))


class Pairs(EpochDataset):
    """Real samples around 0, fakes shifted by one in two of six dimensions."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, self.epoch, index])
        real, fake = rng.normal(size=(2, 6)).astype(np.float32)
        fake[:2] += 1
        return {"inputs": np.stack([real, fake]), "label": np.array([0, 1], np.float32)}


def recipe(**changes: Any) -> Recipe:
    base = {"name": "small", "detector": "small", "data": {"kind": "faces"}, "epochs": 4, "batch": 16, "seed": 3}
    return Recipe.model_validate({**base, "optimiser": {"lr": 0.02}, **changes})


def run(folder: Path, *, items: int = 200, **options: Any) -> TrainResult:
    settings = options.pop("recipe", recipe())
    torch.manual_seed(settings.seed)
    splits = DataSplits(Pairs(items, 1), Pairs(100, 2), {})
    return train(Small(DetectorConfig()), splits, settings, folder, **options)


def weights(result: TrainResult) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in result.detector.state_dict().items()}


def assert_equal_weights(one: TrainResult, other: TrainResult) -> None:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_it_learns_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.best.auc == max(m.auc for m in result.history) > 0.8
    assert not result.detector.training
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [asdict(m) for m in result.history] and len(lines) == 4


def test_the_same_seed_gives_the_same_weights_with_any_number_of_workers(tmp_path: Path) -> None:
    one = run(tmp_path / "a", recipe=recipe(epochs=2))
    assert_equal_weights(one, run(tmp_path / "b", recipe=recipe(epochs=2, workers=2)))
    other = run(tmp_path / "c", recipe=recipe(epochs=2, seed=4))
    assert not torch.equal(weights(one)["body.0.weight"], weights(other)["body.0.weight"])


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_resumed_run_ends_where_the_unbroken_one_does(tmp_path: Path, ema: float) -> None:
    settings = recipe(ema=ema)
    whole = run(tmp_path / "whole", recipe=settings)

    def stop(metrics: Any) -> None:
        if metrics.epoch == 1:
            raise KeyboardInterrupt

    broken = run(tmp_path / "broken", recipe=settings, on_epoch=stop)
    assert broken.interrupted and len(broken.history) == 2
    resumed = run(tmp_path / "broken", recipe=settings, resume=True)
    assert [m.auc for m in resumed.history] == [m.auc for m in whole.history]
    assert_equal_weights(whole, resumed)


def test_a_folder_with_another_run_is_refused(tmp_path: Path) -> None:
    run(tmp_path, recipe=recipe(epochs=1))
    with pytest.raises(RecipeError, match="--resume"):
        run(tmp_path, recipe=recipe(epochs=1))
    with pytest.raises(RecipeError, match="other values of batch"):
        run(tmp_path, recipe=recipe(epochs=1, batch=8), resume=True)


def test_a_diverging_loss_is_named_not_saved(tmp_path: Path) -> None:
    class Broken(Pairs):
        def __getitem__(self, index: int) -> dict[str, Any]:
            item = super().__getitem__(index)
            return {**item, "inputs": item["inputs"] * np.nan}

    with pytest.raises(RecipeError, match="loss is nan at step 0"):
        train(Small(DetectorConfig()), DataSplits(Broken(40, 1), Pairs(40, 2), {}), recipe(), tmp_path)
    assert not (tmp_path / "last.pt").exists()


def test_no_data_is_an_error_not_an_endless_run(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="0 items to train on"):
        run(tmp_path, items=0)


def test_the_learning_rate_rises_then_falls_to_zero(tmp_path: Path) -> None:
    rates = run(tmp_path, recipe=recipe(epochs=3, optimiser={"lr": 0.01, "warmup": 0.2})).history
    assert 0.01 > rates[0].lr > rates[1].lr > rates[2].lr
    assert rates[2].lr < 1e-4
