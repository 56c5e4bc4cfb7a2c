"""Ranks that train together: the same batches, the mean of the gradient, one set of files."""

import socket
import time
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_training import Pairs
from torch import Tensor, nn

from detectors.base import Detector, DetectorConfig, DetectorOutput
from train.loop import train
from train.ranks import Batches, Ranks, training_batches
from train.recipe import DataSplits, Recipe, RecipeError


class Plain(Detector):
    """No batch norm and no dropout: what several ranks learn is what one does, up to rounding."""

    name = "plain"

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.body = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
        self.left_out = nn.Linear(3, 3)

    def prepare(self, samples: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.asarray(samples, np.float32))

    def forward(self, batch: Tensor) -> DetectorOutput:
        return DetectorOutput(logit=self.body(batch).squeeze(1))


class Normed(Plain):
    def __init__(self, config: DetectorConfig) -> None:
        super().__init__(config)
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1))


def recipe(**changes: Any) -> Recipe:
    base = {"name": "small", "detector": "small", "data": {"kind": "faces"}, "epochs": 3, "batch": 15, "seed": 3}
    return Recipe.model_validate({**base, "optimiser": {"lr": 0.02}, "threads": 1, **changes})


def trained(folder: Path, kind: type[Detector], settings: Recipe, broken: int | None = None, **options: Any) -> Any:
    torch.manual_seed(settings.seed)
    splits = DataSplits(Pairs(100, 1, broken), Pairs(41, 2), {})
    return train(kind(DetectorConfig()), splits, settings, folder, **options)


def one_rank(
    rank: int, size: int, port: int, out: Path, kind: type[Detector], settings: Recipe, broken: int | None, resume: bool
) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    told: list[int] = []
    try:
        folder = out if resume else out / str(rank)
        result = trained(folder, kind, settings, broken, resume=resume, progress=lambda p: told.append(p.step))
        torch.save(
            [{**asdict(m), "seconds": 0, "wait": 0, "step_seconds": 0} for m in result.history],
            out / f"history{rank}.pt",
        )
        assert bool(told) is (rank == 0)
    except RecipeError as error:
        (out / f"error{rank}.txt").write_text(str(error))
    dist.barrier()
    dist.destroy_process_group()


def together(
    out: Path, kind: type[Detector], settings: Recipe, size: int = 2, broken: int | None = None, resume: bool = False
) -> list[list[dict[str, Any]]]:
    out.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.start_processes(one_rank, (size, port, out, kind, settings, broken, resume), size, start_method="fork")
    return [torch.load(path, weights_only=True) for path in sorted(out.glob("history*.pt"))]


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 8), st.integers(0, 5))
def test_the_shares_of_all_ranks_are_the_batches_of_one(length: int, batch: int, size: int, epoch: int) -> None:
    for seed in (7, None):
        alone = Batches(length, batch, Ranks(), seed)
        alone.epoch = epoch
        whole = list(alone)
        assert len(whole) == len(alone)
        if min(batch, length) < size:
            continue
        shares = []
        for rank in range(size):
            own = Batches(length, batch, Ranks(rank, size), seed)
            own.epoch = epoch
            shares.append(list(own))
        if seed is not None:
            assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == whole
            assert len({len(share) for share in shares}) == 1, "every rank takes every step"
        else:
            assert sorted(i for share in shares for part in share for i in part) == list(range(length))


def test_two_ranks_learn_what_one_does(tmp_path: Path) -> None:
    alone = trained(tmp_path / "alone", Plain, recipe())
    first, second = together(tmp_path / "two", Plain, recipe())
    assert first == second, "all ranks tell the same"
    for one, many in zip(alone.history, first, strict=True):
        assert many["train_loss"] == pytest.approx(one.train_loss, rel=1e-5)
        assert many["val_loss"] == pytest.approx(one.val_loss, rel=1e-5)
        assert many["auc"] == pytest.approx(one.auc, abs=1e-3) and many["val_samples"] == one.val_samples == 82
    weights = torch.load(tmp_path / "two/0/last.pt", weights_only=True)["model"]
    kept = torch.load(tmp_path / "alone/last.pt", weights_only=True)["model"]
    assert all(torch.allclose(weights[key], kept[key], atol=1e-5) for key in kept)
    assert not list((tmp_path / "two/1").glob("*")), "rank 0 alone writes"


def test_two_ranks_accumulate_and_look_for_flat_places_as_one_does(tmp_path: Path) -> None:
    """6 batches of 15 by 4, whose shares differ by an item; the ascent is along the gradient of all ranks."""
    optimising = {"name": "sgd", "lr": 0.3, "sam": 0.2, "clip": 0.5}
    settings = recipe(accumulate=4, optimiser=optimising, freeze=[{"parts": ["body.0"], "epochs": 1}])
    alone = trained(tmp_path / "alone", Plain, settings)
    first, second = together(tmp_path / "two", Plain, settings)
    assert first == second and [m["step"] for m in first] == [2, 4, 6]
    weights = torch.load(tmp_path / "two/0/last.pt", weights_only=True)["model"]
    kept = torch.load(tmp_path / "alone/last.pt", weights_only=True)["model"]
    assert all(torch.allclose(weights[key], kept[key], atol=1e-5) for key in kept)
    assert [m["train_loss"] for m in first] == pytest.approx([m.train_loss for m in alone.history], rel=1e-5)
    torch.manual_seed(settings.seed)
    start = Plain(DetectorConfig()).state_dict()
    assert (weights["body.0.weight"] - start["body.0.weight"]).norm() > 0.01, "woken after the first epoch"


def test_ranks_repeat_themselves_and_resume(tmp_path: Path) -> None:
    settings = recipe(ema=0.9, epochs=4, accumulate=2, freeze=[{"parts": ["body.0", "body.1"], "epochs": 2}])
    whole = together(tmp_path / "whole", Normed, settings)[0]
    assert together(tmp_path / "again", Normed, settings)[0] == whole
    part = tmp_path / "part"
    short = mp.get_context("fork").Process(target=stop_after, args=(part, settings, 1))
    short.start()
    short.join(120)
    assert (part / "0/last.pt").exists()
    resumed = together(part / "0", Normed, settings, resume=True)[0]
    assert resumed == whole


def stop_after(out: Path, settings: Recipe, epoch: int) -> None:
    """Two ranks that end once `epoch` is saved."""
    out.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.start_processes(ending_rank, (port, out, settings, epoch), 2, start_method="fork")


def ending_rank(rank: int, port: int, out: Path, settings: Recipe, epoch: int) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)

    def stop(metrics: Any) -> None:
        if metrics.epoch == epoch:
            raise KeyboardInterrupt

    trained(out / str(rank), Normed, settings, on_epoch=stop)


def test_a_loss_that_diverges_on_one_rank_stops_all(tmp_path: Path) -> None:
    began = time.monotonic()
    assert together(tmp_path / "two", Plain, recipe(), broken=11) == []
    messages = {path.read_text() for path in (tmp_path / "two").glob("error*.txt")}
    assert len(messages) == 1, "all say the same"
    told = messages.pop()
    assert "the loss is nan at step" in told and "by itself too in the items 11: look" in told
    assert len(list((tmp_path / "two").glob("error*.txt"))) == 2
    assert time.monotonic() - began < 120, "no rank waits for another"


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 4), st.integers(2, 20), st.integers(0, 3))
def test_every_rank_gets_some_of_the_rarer_class(real: int, fake: int, size: int, batch: int, epoch: int) -> None:
    data = Pairs(real + fake, 1)
    data.labels = np.repeat(np.array([0, 1], np.float32), [real, fake])
    if size >= batch:
        return
    settings = recipe(batch=batch, sampling={"minimum": size})
    shares = [training_batches(settings, data, Ranks(rank, size)) for rank in range(size)]
    whole = training_batches(settings, data)
    for one in (*shares, whole):
        one.epoch = epoch
    rarer = float(fake < real)
    for parts, everything in zip(zip(*shares, strict=True), whole, strict=True):
        assert sorted(chain(*parts)) == sorted(everything) and len(everything) == batch
        for part in parts:
            assert rarer in data.labels[part] or real == fake, "a loss that compares classes finds both"
            assert abs(len(part) - batch / size) < 1


@pytest.mark.parametrize(
    ("labels", "changes", "size", "message"),
    [
        (None, {}, 1, "each item of data.kind faces holds real and fake: leave it out, or set sampling.singles"),
        ([0, 0, 0, 0], {}, 1, "all 4 training items are real: add the other class"),
        ([0, 0, 0, 1], {"batch": 1}, 1, "a batch of 1 cannot hold 1 of one class"),
        ([0] * 30 + [1], {"batch": 8}, 2, "2 workers cannot share 1 of the rarer class: set it to 2"),
    ],
)
def test_a_sampling_that_the_data_cannot_give_is_said(
    labels: list[int] | None, changes: dict[str, Any], size: int, message: str
) -> None:
    data = Pairs(4, 1)
    data.labels = None if labels is None else np.array(labels, np.float32)
    with pytest.raises(RecipeError, match=message):
        training_batches(recipe(sampling={"minimum": 1}, **{"batch": 2, **changes}), data, Ranks(0, size))


def test_more_ranks_than_items_in_a_batch_are_refused(tmp_path: Path) -> None:
    together(tmp_path / "two", Plain, recipe(batch=1))
    assert "a batch of 1 cannot be shared by 2 workers" in (tmp_path / "two/error0.txt").read_text()
