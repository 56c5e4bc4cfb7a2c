"""The training loop on a small but real problem: it learns, it repeats itself, it resumes, it can be stopped."""

import json
import multiprocessing
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import Pairs, Plain, Small, assert_equal_weights, recipe, run, weights
from torch import Tensor

from detectors.base import DetectorOutput, Truth
from train.feed import Feed
from train.loop import EpochMetrics, Progress
from train.ranks import Batches, Ranks
from train.recipe import DataSplits, Recipe, RecipeError

RECIPES = {
    "plain": recipe(),
    "ema": recipe(ema=0.9),
    "accumulate": recipe(accumulate=5),
    "sam": recipe(optimiser={"lr": 0.02, "sam": 0.05, "clip": 1.0}),
    "nadam": recipe(optimiser={"name": "nadam", "lr": 0.01}),
    "freeze": recipe(freeze=[{"parts": ["body.0", "body.1"], "epochs": 3}]),
    "plateau": recipe(epochs=6, optimiser={"lr": 0.5, "schedule": "plateau", "patience": 1, "gamma": 0.5}),
    "early": recipe(epochs=12, patience=2, optimiser={"lr": 0.5}),
    "all": recipe(
        epochs=6, accumulate=2, patience=3, watch="val_loss", ema=0.9, precision="bfloat16",
        freeze=[{"parts": ["body.0"], "epochs": 2}], sampling={"singles": True, "ratio": 3, "minimum": 5},
        optimiser={"name": "sgd", "lr": 0.2, "sam": 0.02, "layer_decay": 0.8, "schedule": "plateau", "patience": 1},
    ),
}  # fmt: skip


def splits(settings: Recipe, train: Pairs | None = None) -> DataSplits:
    from train.imbalance import Singles

    made = DataSplits(train or Pairs(200, 1), Pairs(100, 2), {})
    if settings.sampling.singles:
        made.train = Singles(made.train, settings.sampling.ratio, settings.seed, "test")
    return made


def curve(history: list[EpochMetrics]) -> list[dict[str, Any]]:
    return [{**asdict(m), "seconds": 0, "wait": 0, "step_seconds": 0} for m in history]


def kept_curve(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{**line, "seconds": 0, "wait": 0, "step_seconds": 0} for line in lines]


def test_it_learns_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.best.auc == max(m.auc for m in result.history) > 0.8
    assert not result.detector.training and not result.early
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [asdict(m) for m in result.history] and len(lines) == 4


@pytest.mark.parametrize("name", ["accumulate", "sam", "nadam", "freeze", "all"])
def test_every_way_of_training_learns(name: str, tmp_path: Path) -> None:
    settings = RECIPES[name].model_copy(update={"epochs": 10, "patience": None})
    result = run(tmp_path, settings, data=splits(settings))
    assert result.best.auc > 0.8 and result.history[-1].train_loss < result.history[0].train_loss


def test_the_same_seed_gives_the_same_weights_with_any_number_of_workers(tmp_path: Path) -> None:
    one = run(tmp_path / "a", recipe(epochs=2))
    assert_equal_weights(one, run(tmp_path / "b", recipe(epochs=2, workers=2)))
    other = run(tmp_path / "c", recipe(epochs=2, seed=4))
    assert not torch.equal(weights(one)["body.0.weight"], weights(other)["body.0.weight"])


@pytest.mark.parametrize("name", RECIPES)
def test_a_resumed_run_ends_where_the_unbroken_one_does(tmp_path: Path, name: str) -> None:
    settings = RECIPES[name]
    whole = run(tmp_path / "whole", settings, data=splits(settings))

    def stop(metrics: Any) -> None:
        if metrics.epoch == 1:
            raise KeyboardInterrupt

    broken = run(tmp_path / "broken", settings, data=splits(settings), on_epoch=stop)
    assert broken.interrupted and len(broken.history) == 2
    resumed = run(tmp_path / "broken", settings, data=splits(settings), resume=True)
    assert curve(resumed.history) == curve(whole.history) and resumed.early == whole.early
    assert_equal_weights(whole, resumed)


class Killed(Pairs):
    """Its process is killed in the middle of the third epoch."""

    drawn = 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.drawn += self.epoch == 2
        if self.drawn == 70:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@pytest.mark.parametrize("name", ["plain", "all"])
def test_a_killed_run_leaves_no_trace_once_resumed(tmp_path: Path, name: str) -> None:
    settings = RECIPES[name].model_copy(update={"threads": 1})
    whole = run(tmp_path / "whole", settings, data=splits(settings))
    options = {"data": splits(settings, Killed(200, 1))}
    process = multiprocessing.get_context("fork").Process(target=run, args=(tmp_path / "k", settings), kwargs=options)
    process.start()
    process.join(100)
    assert process.exitcode == -signal.SIGKILL and len(kept_curve(tmp_path / "k")) == 2
    resumed = run(tmp_path / "k", settings, data=splits(settings), resume=True)
    assert kept_curve(tmp_path / "k") == kept_curve(tmp_path / "whole") == curve(whole.history)
    assert_equal_weights(whole, resumed)


def test_a_line_lost_between_two_files_is_written_again(tmp_path: Path) -> None:
    run(tmp_path, recipe(epochs=2))
    lines = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(lines.splitlines()[0] + "\n")
    run(tmp_path, recipe(epochs=2), resume=True)
    assert (tmp_path / "metrics.jsonl").read_text() == lines


def test_a_run_stops_once_nothing_gets_better(tmp_path: Path) -> None:
    result = run(tmp_path / "a", RECIPES["early"])
    assert result.early and len(result.history) < 12
    first_best = max(range(len(result.history)), key=lambda i: (result.history[i].auc, -i))
    assert len(result.history) - 1 - first_best == 2
    again = run(tmp_path / "a", RECIPES["early"], resume=True)
    assert again.early and curve(again.history) == curve(result.history), "a stopped run has nothing left to do"


def test_the_watched_figure_chooses_the_best_epoch(tmp_path: Path) -> None:
    settings = recipe(epochs=8, seed=1, watch="val_loss", optimiser={"lr": 0.3, "schedule": "constant"})
    result = run(tmp_path, settings)
    losses = [m.val_loss for m in result.history]
    assert result.best.val_loss == min(losses) and losses[-1] > min(losses)
    assert result.best.auc < max(m.auc for m in result.history), "by AUC another one would be"


def test_a_plateau_lowers_the_rate(tmp_path: Path) -> None:
    history = run(tmp_path, RECIPES["plateau"].model_copy(update={"epochs": 10})).history
    rate, best = 0.5, -1.0
    for metrics in history:
        assert metrics.lr == rate
        rate, best = (rate if metrics.auc > best else rate / 2), max(best, metrics.auc)
    assert rate < 0.5


def test_several_batches_are_one_step(tmp_path: Path) -> None:
    """12 batches of 16 items by 5: two whole steps and one of two batches."""
    result = run(tmp_path, recipe(accumulate=5, epochs=2))
    assert [m.step for m in result.history] == [3, 6]
    state = torch.load(tmp_path / "last.pt", weights_only=True)["optimiser"]["state"]
    assert all(one["step"] == 6 for one in state.values())


def test_the_share_of_waiting_is_told(tmp_path: Path) -> None:
    class Slow(Pairs):
        def __getitem__(self, index: int) -> dict[str, Any]:
            time.sleep(0.004)
            return super().__getitem__(index)

    slow = run(tmp_path / "slow", recipe(epochs=1), data=DataSplits(Slow(64, 1), Pairs(20, 2), {})).best

    class Thinking(Small):
        def forward(self, batch: Tensor) -> DetectorOutput:
            time.sleep(0.1)
            return super().forward(batch)

    fast = run(tmp_path / "fast", recipe(epochs=1), kind=Thinking, data=DataSplits(Pairs(64, 1), Pairs(20, 2), {})).best
    assert slow.wait > 0.7 and fast.wait < 0.3


def test_what_finishes_a_batch_where_the_network_is_counts_as_waiting() -> None:
    class Finished(Pairs):
        def finish(self, given: dict[str, Tensor], *at: object) -> tuple[Tensor, Truth]:
            time.sleep(0.03)
            return given["inputs"], Truth(given["label"])

    feed = Feed(Finished(8, 1), Batches(8, 4, Ranks()), 0, Small().targets)
    assert len(list(feed)) == 2 and feed.waited > 0.06


def test_the_time_left_has_the_validations_to_come(tmp_path: Path) -> None:
    class Slow(Pairs):
        def __getitem__(self, index: int) -> dict[str, Any]:
            time.sleep(0.01)
            return super().__getitem__(index)

    told: list[Progress] = []
    run(tmp_path, recipe(epochs=2), data=DataSplits(Pairs(64, 1), Slow(40, 2), {}), progress=told.append)
    last = [p for p in told if p.step == p.steps]
    assert len(last) == 2 and last[0].left_s > 0
    assert 0.4 < last[1].left_s < 2, "no step is left, one validation of 40 items is"


def test_a_folder_with_another_run_is_refused(tmp_path: Path) -> None:
    run(tmp_path, recipe(epochs=1))
    with pytest.raises(RecipeError, match="--resume"):
        run(tmp_path, recipe(epochs=1))
    with pytest.raises(RecipeError, match="other values of batch, optimiser"):
        run(tmp_path, recipe(epochs=1, batch=8, optimiser={"lr": 0.1}), resume=True)
    with pytest.raises(RecipeError, match="holds a run of the detector small, and recipe small trains lrnet"):
        run(tmp_path, recipe(epochs=1, detector="lrnet"), resume=True)


def test_a_checkpoint_that_is_none_or_fits_not_is_named(tmp_path: Path) -> None:
    run(tmp_path / "a", recipe(epochs=1))
    with pytest.raises(RecipeError, match=r"last\.pt does not fit small"):
        run(tmp_path / "a", recipe(epochs=1), kind=Plain, resume=True)
    state = torch.load(tmp_path / "a/last.pt", weights_only=True)
    del state["recipe"]["accumulate"]
    torch.save(state, tmp_path / "a/last.pt")
    with pytest.raises(RecipeError, match="of another version, whose recipe has no accumulate"):
        run(tmp_path / "a", recipe(epochs=1), resume=True)
    for content in (b"", b"words", (tmp_path / "a/best.pt").read_bytes()[:500]):
        (tmp_path / "a/last.pt").write_bytes(content)
        with pytest.raises(RecipeError, match=r"last\.pt cannot be read as a checkpoint"):
            run(tmp_path / "a", recipe(epochs=1), resume=True)
    (tmp_path / "a/best.pt").unlink()
    torch.save([1], tmp_path / "a/last.pt")
    with pytest.raises(RecipeError, match=r"last\.pt is no checkpoint"):
        run(tmp_path / "a", recipe(epochs=1), resume=True)


def test_a_loss_that_is_no_number_names_step_and_items_and_keeps_the_last_epoch(tmp_path: Path) -> None:
    class Later(Pairs):
        """Item 33 is broken from the third epoch on."""

        def __getitem__(self, index: int) -> dict[str, Any]:
            self.broken = 33 if self.epoch == 2 else None
            return super().__getitem__(index)

    with pytest.raises(RecipeError) as caught:
        run(tmp_path, data=DataSplits(Later(200, 1), Pairs(100, 2), {}))
    told = str(caught.value)
    assert "the loss is nan at step" in told and "(epoch 3)" in told
    assert "by itself too in the items 33: look" in told and told.endswith("last.pt keeps epoch 2")
    listed = told.partition("training items ")[2].partition(";")[0].split(", ")
    assert len(listed) == 16 and "33" in listed
    step = int(told.partition("at step ")[2].partition(" ")[0])
    from train.ranks import Batches, Ranks

    batches = Batches(200, 16, Ranks(), 3)
    batches.epoch = 2
    assert set(map(int, listed)) == set(list(batches)[step - 24])
    whole = run(tmp_path / "whole", recipe())
    resumed = run(tmp_path, resume=True)
    assert curve(resumed.history) == curve(whole.history), "with the data mended it goes on as if nothing had been"


def test_a_rate_that_diverges_blames_no_item(tmp_path: Path) -> None:
    class Exploding(Plain):
        """A loss that only many samples together bring to infinity."""

        def loss(self, output: DetectorOutput, truth: Truth) -> Tensor:
            return super().loss(output, truth) * (torch.inf if len(truth.label) > 8 else 1.0)

    with pytest.raises(RecipeError, match=r"the loss is inf at step 0 .* in none of them by itself: lower optim"):
        run(tmp_path, kind=Exploding)
    assert not (tmp_path / "last.pt").exists()
    settings = recipe(optimiser={"name": "sgd", "lr": 1e37, "schedule": "constant"})
    with pytest.raises(
        RecipeError, match=r"the loss is (nan|inf) at step \d+ .* in each of them by itself: lower optim"
    ):
        run(tmp_path / "away", settings, kind=Plain)


def test_a_gradient_that_is_no_number_is_named_before_it_is_used(tmp_path: Path) -> None:
    class Rooted(Plain):
        """The root of zero has a loss, and no slope."""

        def loss(self, output: DetectorOutput, truth: Truth) -> Tensor:
            return (
                super().loss(output, truth) + torch.sqrt(output.logit.detach() * 0 + output.logit - output.logit).sum()
            )

    with pytest.raises(RecipeError, match="the gradient is nan at step 0"):
        run(tmp_path, kind=Rooted)


def test_scores_that_are_no_numbers_in_validation_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"not finite after epoch 1, in batches of the validation items 0, 1.* 15;"):
        run(tmp_path, data=DataSplits(Pairs(200, 1), Pairs(40, 2, broken=5), {}))
    assert not (tmp_path / "last.pt").exists()


def test_validation_of_one_class_is_said(tmp_path: Path) -> None:
    class Real(Pairs):
        def __getitem__(self, index: int) -> dict[str, Any]:
            return {key: value[:1] for key, value in super().__getitem__(index).items()}

    with pytest.raises(RecipeError, match="all 20 validation samples are real"):
        run(tmp_path, data=DataSplits(Pairs(40, 1), Real(20, 2), {}))


class Hungry(Small):
    """Has memory for `room` samples."""

    room = 11

    def forward(self, batch: Tensor) -> DetectorOutput:
        if self.training and len(batch) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return super().forward(batch)


def test_too_large_a_batch_tells_which_one_fits(tmp_path: Path) -> None:
    told = r"a batch of 16 does not fit into the memory of cpu; 4 would: batch=4 accumulate=4 learns"
    with pytest.raises(RecipeError, match=told):
        run(tmp_path / "a", kind=Hungry)
    result = run(tmp_path / "b", recipe(epochs=1, batch=4, accumulate=4), kind=Hungry)
    assert result.best.step == 13, "what was advised trains"

    class Starving(Hungry):
        room = 1

    with pytest.raises(RecipeError, match="nor does one item: take a smaller config, or precision=bfloat16"):
        run(tmp_path / "c", kind=Starving)


def test_too_little_memory_for_validation_is_said(tmp_path: Path) -> None:
    class Judged(Small):
        def forward(self, batch: Tensor) -> DetectorOutput:
            if not self.training:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(batch)

    with pytest.raises(RecipeError, match="does not fit into the memory of cpu, or its validation does not"):
        run(tmp_path, kind=Judged)


def test_other_failures_are_not_taken_for_lack_of_memory(tmp_path: Path) -> None:
    class Wrong(Small):
        def forward(self, batch: Tensor) -> DetectorOutput:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        run(tmp_path, kind=Wrong)


def test_no_data_is_an_error_not_an_endless_run(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="0 items to train on"):
        run(tmp_path, data=DataSplits(Pairs(0, 1), Pairs(10, 2), {}))


def test_the_learning_rate_rises_then_falls_to_zero(tmp_path: Path) -> None:
    rates = run(tmp_path, recipe(epochs=3, optimiser={"lr": 0.01, "warmup": 0.2})).history
    assert 0.01 > rates[0].lr > rates[1].lr > rates[2].lr
    assert rates[2].lr < 1e-4


@pytest.mark.slow
def test_a_compiled_step_learns_the_same_up_to_rounding(tmp_path: Path) -> None:
    settings = recipe(epochs=2, accumulate=2, optimiser={"lr": 0.02, "sam": 0.05})
    plain = run(tmp_path / "plain", settings, kind=Plain)
    compiled = run(tmp_path / "compiled", settings.model_copy(update={"compile": True}), kind=Plain)
    assert [m.train_loss for m in compiled.history] == pytest.approx([m.train_loss for m in plain.history], rel=1e-4)
    assert weights(compiled).keys() == weights(plain).keys()
    assert np.allclose(weights(compiled)["body.0.weight"], weights(plain)["body.0.weight"], atol=1e-4)


@pytest.mark.slow
def test_a_compiled_run_resumes_exactly(tmp_path: Path) -> None:
    settings = recipe(epochs=3, compile=True, freeze=[{"parts": ["body.0"], "epochs": 1}])
    whole = run(tmp_path / "whole", settings)

    def stop(metrics: Any) -> None:
        raise KeyboardInterrupt

    run(tmp_path / "broken", settings, on_epoch=stop)
    resumed = run(tmp_path / "broken", settings, resume=True)
    assert curve(resumed.history) == curve(whole.history)
    assert_equal_weights(whole, resumed)


@pytest.mark.slow
def test_a_machine_that_cannot_compile_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config as inductor

    class Unseen(Plain):
        """What no cache has compiled yet."""

        def forward(self, batch: Tensor) -> DetectorOutput:
            return super().forward(batch * 1.03 + 0.0107)

    monkeypatch.setattr(inductor.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    torch._dynamo.reset()
    with pytest.raises(RecipeError, match=r"torch\.compile gave up .* set compile=false"):
        run(tmp_path, recipe(compile=True), kind=Unseen)
