"""The training loop: plain torch, any device, alone or one of several ranks; knows no method and no data."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from detectors.base import Detector
from train.checkpoint import read, same_run, writable, write
from train.feed import Batch, Feed
from train.feed import collate as collate
from train.guard import NotFinite, listed, out_of_memory
from train.optim import Freezer, optimiser
from train.ranks import Batches, Ranks, training_batches
from train.recipe import DataSplits, EpochDataset, Recipe, RecipeError
from train.schedule import learning_rate, plateaus, waited
from train.step import Stepper


@dataclass
class EpochMetrics:
    """One line of metrics.jsonl. Losses are means over samples; `auc` is the validation's, over samples.

    `train_loss` holds what a recipe's teacher adds, `val_loss` does not.
    `wait`: the share, 0 to 1, of the training's time that went by until data was there, over all `ranks`.
    `step_seconds`: the median time of a step, with the wait for its data.
    """

    epoch: int
    step: int
    train_loss: float
    val_loss: float
    auc: float
    lr: float
    seconds: float
    val_samples: int = 0
    wait: float = 0.0
    ranks: int = 1
    step_seconds: float = 0.0

    def merit(self, watch: Literal["auc", "val_loss"]) -> float:
        """The recipe's watched figure, more is better."""
        return self.auc if watch == "auc" else -self.val_loss


@dataclass
class Progress:
    """Where a run stands; `rate` in samples a second, `left_s` seconds to the end of the run."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    rate: float
    left_s: float


@dataclass
class TrainResult:
    """`detector` holds the best weights by validation (on rank 0) and is in eval mode.

    `early`: the recipe's `patience` ended the run.
    """

    detector: Detector
    best: EpochMetrics
    history: list[EpochMetrics] = field(default_factory=list)
    interrupted: bool = False
    early: bool = False


def train(
    detector: Detector,
    splits: DataSplits,
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    progress: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[EpochMetrics], None] | None = None,
) -> TrainResult:
    """Train `detector` as `recipe` says; checkpoints and metrics go to `folder`, after each epoch.

    With `resume` the run continues after the last finished epoch in `folder` with the same data, order and schedule.
    Ctrl-C ends the run after the last finished epoch, with the best weights so far (`interrupted`).

    In a torch process group each rank calls this with the same arguments. The batches are those of a single process,
    each rank computes its share of them, and the gradient is the mean over the whole batch; rank 0 writes the files,
    the others read from their `folder` only to resume. `on_epoch` is called on all ranks, `progress` on rank 0. Batch
    norm uses each rank's own share; its running statistics are those of rank 0.

    Raises:
        RecipeError: fewer items in a batch than ranks, nothing to train on, a folder with another run in it, a part or
            a sampling that network or data have not, a loss or gradient that is no longer finite (with the step and
            the items), too little memory (with the batch that fits), a full disk, or a folder that cannot be written.
            What was saved stays.
    """
    if len(splits.train) == 0 or len(splits.validation) == 0:
        raise RecipeError(
            f"recipe {recipe.name}: {len(splits.train)} items to train on, {len(splits.validation)} to validate on"
        )
    ranks = Ranks.here(device)
    if min(recipe.batch, len(splits.train)) < ranks.size:
        raise RecipeError(
            f"recipe {recipe.name}: a batch of {min(recipe.batch, len(splits.train))} cannot be shared by {ranks.size}"
            " workers; give fewer --workers or a larger batch"
        )
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if (folder / "last.pt").exists() and not resume:
        raise RecipeError(f"{folder} already holds a run: continue it with --resume, or name another folder")
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    try:
        # Only four-dimensional weights have such a format; on CPU and GPU it halves the time of small convolutions.
        detector = detector.to(device)
        for parameter in detector.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        run = _Run(detector, splits, recipe, folder, ranks)
        if resume:
            run.load()
        return _trained(run, progress, on_epoch)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise RecipeError(
            f"recipe {recipe.name}: the network does not fit into the memory of {device}, or its validation does not:"
            " take a smaller batch or config"
        ) from error


def _trained(
    run: _Run, progress: Callable[[Progress], None] | None, on_epoch: Callable[[EpochMetrics], None] | None
) -> TrainResult:
    if run.ranks.first:
        run.write_history()
    try:
        for epoch in range(run.start, run.recipe.epochs):
            if run.early:
                break
            metrics = run.epoch(epoch, progress if run.ranks.first else None)
            run.save(metrics)
            if on_epoch:
                on_epoch(metrics)
    except KeyboardInterrupt:
        if not run.history:
            raise
        return run.result(interrupted=True)
    return run.result(interrupted=False)


class _Run:
    def __init__(self, detector: Detector, splits: DataSplits, recipe: Recipe, folder: Path, ranks: Ranks) -> None:
        self.detector, self.splits, self.recipe = detector, splits, recipe
        self.folder, self.ranks, self.device = folder, ranks, ranks.device
        self.batches = training_batches(recipe, splits.train, ranks)
        self.judging = Batches(len(splits.validation), recipe.batch, ranks)
        self.steps = -(-len(self.batches) // recipe.accumulate)
        self.freezer = Freezer(detector, recipe)
        self.optimiser = optimiser(detector, recipe)
        self.ema = (
            AveragedModel(detector, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema), use_buffers=True)
            if recipe.ema
            else None
        )
        self.start = 0
        self.history: list[EpochMetrics] = []
        self.stepper = Stepper(detector, recipe, ranks, self.optimiser)
        self.validation_s: float | None = None
        """What the last validation took; None before there was one."""

    @property
    def judged(self) -> Detector:
        """The network that is validated and kept: the averaged one where the recipe averages."""
        return self.ema.module if self.ema is not None else self.detector  # type: ignore[return-value]

    @property
    def merits(self) -> list[float]:
        """Of the finished epochs, more is better. Plateaus and early stopping follow from them, also after resuming."""
        return [m.merit(self.recipe.watch) for m in self.history]

    @property
    def early(self) -> bool:
        """Whether no further epoch is worth it."""
        return self.recipe.patience is not None and waited(self.merits) >= self.recipe.patience

    def feed(self, data: EpochDataset, batches: Batches) -> Feed:
        return Feed(data, batches, self.recipe.workers, self.detector.targets, self.ranks.device)

    def epoch(self, epoch: int, progress: Callable[[Progress], None] | None) -> EpochMetrics:
        began = time.perf_counter()
        # Every epoch draws anew from its own seed (dropout), so that resuming repeats the unbroken run.
        torch.manual_seed(self.recipe.seed * 1_000_003 + epoch + (self.ranks.rank << 40))
        self.splits.train.epoch = self.batches.epoch = epoch
        self.detector.train()
        self.freezer.set(epoch)
        falls = plateaus(self.merits, self.recipe.optimiser.patience)
        feed = self.feed(self.splits.train, self.batches)
        total, samples, lr = 0.0, 0, 0.0
        ends = [time.perf_counter()]
        for index, group in enumerate(feed.groups(self.recipe.accumulate)):
            step = epoch * self.steps + index
            lr = learning_rate(self.recipe.optimiser, step, self.steps, self.recipe.epochs, falls)
            for parameters in self.optimiser.param_groups:
                parameters["lr"] = lr * parameters["factor"]
            summed, count = self.step(group, step)
            if self.ema is not None:
                self.ema.update_parameters(self.detector)
            total, samples = total + summed, samples + count
            ends.append(time.perf_counter())
            if progress:
                spent, epochs = time.perf_counter() - began, self.recipe.epochs
                left = self.left(step + 1, epochs - epoch, spent / (index + 1))
                rate = samples / spent
                progress(Progress(epoch + 1, epochs, index + 1, self.steps, total / samples, rate, left))
        spent, waiting = self.ranks.total(time.perf_counter() - began, feed.waited)
        trained = time.perf_counter()
        val_loss, auc, judged = self.validate(epoch)
        self.validation_s = time.perf_counter() - trained
        seconds = round(time.perf_counter() - began, 2)
        wait = round(waiting / max(spent, 1e-9), 4)
        steps, loss, each = (epoch + 1) * self.steps, total / samples, round(float(np.median(np.diff(ends))), 5)
        return EpochMetrics(epoch, steps, loss, val_loss, auc, lr, seconds, judged, wait, self.ranks.size, each)

    def left(self, done: int, validations: int, step_s: float) -> float:
        """Seconds to the end of the run after `done` steps, its `validations` included. Before one was timed, a batch
        of it counts as a batch of training, which also goes backwards: rather too long than too short."""
        each = self.validation_s
        if each is None:
            each = len(self.judging) * step_s / self.recipe.accumulate
        return (self.recipe.epochs * self.steps - done) * step_s + validations * each

    def step(self, group: list[Batch], step: int) -> tuple[float, int]:
        """The samples' summed loss and their number. Raises RecipeError."""
        try:
            return self.stepper(group)
        except NotFinite as error:
            raise RecipeError(self.lost(error, step)) from error
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        # Outside of the handler: the exception would hold the memory of the failed step.
        raise RecipeError(self.too_large(group[0]))

    def lost(self, error: NotFinite, step: int) -> str:
        """Which step, which items, and what is kept. All ranks come here together and say the same."""
        own = self.stepper.culprits(error.items, self.feed(self.splits.train, self.batches).batch)
        items, alone = (list(itertools.chain(*self.ranks.gathered(found))) for found in (error.items, own))
        cause = f"by itself too in the items {listed(alone)}: look at what they hold"
        if not alone or len(alone) == len(items) > 1:
            cause = f"in {'each' if alone else 'none'} of them by itself: lower optimiser.lr, or set optimiser.clip"
        kept = f"; {self.folder}/last.pt keeps epoch {len(self.history)}" if self.history else ""
        return (
            f"recipe {self.recipe.name}: the {error} at step {step} (epoch {len(self.history) + 1}), in a batch of the"
            f" training items {listed(items)}; {cause}{kept}"
        )

    def too_large(self, batch: Batch) -> str:
        """What does not fit, and what would."""
        whole, accumulate = self.recipe.batch, self.recipe.accumulate
        fits = self.stepper.fitting(batch) * self.ranks.size
        said = f"recipe {self.recipe.name}: a batch of {whole} does not fit into the memory of {self.device}"
        if fits < self.ranks.size:
            return f"{said}, nor does one item: take a smaller config, or precision=bfloat16"
        more = math.ceil(whole * accumulate / fits)
        return f"{said}; {fits} would: batch={fits} accumulate={more} learns from as many items a step"

    @torch.inference_mode()
    def validate(self, epoch: int) -> tuple[float, float, int]:
        """Mean loss and AUC over the validation samples, which are the same in every epoch, and their number."""
        network = self.stepper.whole(self.judged.eval())
        self.ranks.same_buffers(self.judged)
        self.splits.validation.epoch = 0
        logits: list[Tensor] = []
        labels: list[Tensor] = []
        broken: list[int] = []
        losses = 0.0
        for batch in self.feed(self.splits.validation, self.judging):
            logit, loss = self.stepper.forward(network, batch)
            if not (math.isfinite(loss.item()) and bool(logit.isfinite().all())):
                broken += batch.items
            losses += loss.item() * len(batch.inputs)
            logits.append(logit.cpu())
            labels.append(batch.truth.label)
        (losses,) = self.ranks.total(losses)
        if broken := list(itertools.chain(*self.ranks.gathered(broken))):
            raise RecipeError(
                f"recipe {self.recipe.name}: scores or loss are not finite after epoch {epoch + 1}, in batches of the"
                f" validation items {listed(broken)}; this epoch was not saved"
            )
        scores, truths = (_joined(self.ranks.gathered([one.numpy() for one in kept])) for kept in (logits, labels))
        fake = truths > 0.5
        if fake.all() or not fake.any():
            raise RecipeError(
                f"recipe {self.recipe.name}: all {len(fake)} validation samples are {'fake' if fake.all() else 'real'}:"
                " there is no AUC to judge by; give data with both"
            )
        return losses / len(fake), float(roc_auc_score(fake, scores)), len(fake)

    def save(self, metrics: EpochMetrics) -> None:
        """last.pt holds all that resuming needs; best.pt the weights of the best epoch so far. Raises RecipeError."""
        self.history.append(metrics)
        if not self.ranks.first:
            return
        if self.merits[-1] >= max(self.merits):
            write(self.judged.state_dict(), self.folder / "best.pt")
        state = {
            "recipe": self.recipe.model_dump(),
            "epoch": metrics.epoch,
            "model": self.detector.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimiser": self.optimiser.state_dict(),
            "history": [asdict(m) for m in self.history],
        }
        write(state, self.folder / "last.pt")
        self.write_history()

    def write_history(self) -> None:
        """Whole each time: a run killed between two files would else miss a line for ever."""
        write("".join(json.dumps(asdict(m)) + "\n" for m in self.history), self.folder / "metrics.jsonl")

    def load(self) -> None:
        path = self.folder / "last.pt"
        if not path.exists():
            return
        state = read(path, self.device)
        same_run(state, self.recipe, self.folder)
        try:
            self.detector.load_state_dict(state["model"])
            if self.ema is not None:
                self.ema.load_state_dict(state["ema"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise RecipeError(
                f"{path} does not fit {self.recipe.detector} as this version makes it: name another folder"
            ) from error
        self.history = [EpochMetrics(**m) for m in state["history"]]
        self.start = state["epoch"] + 1

    def result(self, interrupted: bool) -> TrainResult:
        best = max(zip(self.merits, self.history, strict=True), key=lambda pair: (pair[0], pair[1].epoch))[1]
        if self.ranks.first:
            self.detector.load_state_dict(read(self.folder / "best.pt", self.device))
        early = self.early and len(self.history) < self.recipe.epochs
        return TrainResult(self.detector.eval(), best, self.history, interrupted, early)


def _joined(parts: list[list[NDArray[np.float32]]]) -> NDArray[np.float32]:
    return np.concatenate([one for part in parts for one in part])
