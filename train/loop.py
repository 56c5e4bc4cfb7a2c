"""The training loop: plain torch, any device, alone or one of several ranks; knows no method and no data."""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from detectors.base import Detector, Truth
from train.ranks import Batches, Ranks, steps_per_epoch
from train.recipe import DataSplits, EpochDataset, Recipe, RecipeError


@dataclass
class EpochMetrics:
    """One line of metrics.jsonl. Losses are means over samples; `auc` is the validation's, over samples."""

    epoch: int
    step: int
    train_loss: float
    val_loss: float
    auc: float
    lr: float
    seconds: float
    val_samples: int = 0


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
    """`detector` holds the best weights by validation AUC (on rank 0) and is in eval mode."""

    detector: Detector
    best: EpochMetrics
    history: list[EpochMetrics] = field(default_factory=list)
    interrupted: bool = False


Targets = Callable[[NDArray[np.float32]], dict[str, NDArray[np.float32]]]
"""A detector's `targets`."""


def collate(items: list[dict[str, Any]], targets: Targets | None = None) -> tuple[Tensor, Truth]:
    """Items of k samples each to inputs (B, ...) and their truth, B the sum of the k; `targets` is the detector's.

    Tensors, because they leave a worker by shared memory: arrays fill a pipe, and a worker whose parent was killed
    would wait for ever to write the rest.
    """

    def joined(key: str) -> Tensor | None:
        return torch.from_numpy(np.concatenate([item[key] for item in items])) if key in items[0] else None

    inputs, label = joined("inputs"), joined("label")
    assert inputs is not None and label is not None
    maps: dict[str, Tensor] = {}
    if targets is not None and "mask" in items[0]:
        made = [targets(mask) for item in items for mask in item["mask"]]
        maps = {name: torch.from_numpy(np.stack([one[name] for one in made])) for name in made[0]}
    return inputs, Truth(label.float(), joined("frame_label"), joined("source"), maps)


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
        RecipeError: fewer items in a batch than ranks, nothing to train on, a folder with another run in it, or a loss
            that is no longer finite.
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
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "last.pt").exists() and not resume:
        raise RecipeError(f"{folder} already holds a run: continue it with --resume, or name another folder")
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    # Only four-dimensional weights have such a format; on CPU and GPU it halves the time of small convolutions.
    detector = detector.to(device)
    for parameter in detector.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    run = _Run(detector, splits, recipe, folder, ranks)
    if resume:
        run.load()
    if run.start == 0 and ranks.first:
        (folder / "metrics.jsonl").unlink(missing_ok=True)
    try:
        for epoch in range(run.start, recipe.epochs):
            metrics = run.epoch(epoch, progress if ranks.first else None)
            run.save(metrics)
            if on_epoch:
                on_epoch(metrics)
    except KeyboardInterrupt:
        if not run.history:
            raise
        return run.result(interrupted=True)
    return run.result(interrupted=False)


class _Step(nn.Module):
    """Network and loss as one module, so that what averages gradients sees every parameter that either uses."""

    def __init__(self, detector: Detector, device: str, half: bool) -> None:
        super().__init__()
        self.detector, self.kind, self.autocast = detector, device.partition(":")[0], half

    def forward(self, batch: Tensor, truth: Truth) -> tuple[Tensor, Tensor]:
        with torch.autocast(self.kind, torch.bfloat16, enabled=self.autocast):
            output = self.detector(batch)
        output.logit = output.logit.float()
        return output.logit, self.detector.loss(output, truth)


class _Run:
    def __init__(self, detector: Detector, splits: DataSplits, recipe: Recipe, folder: Path, ranks: Ranks) -> None:
        self.detector, self.splits, self.recipe = detector, splits, recipe
        self.folder, self.ranks, self.device = folder, ranks, ranks.device
        self.steps = steps_per_epoch(len(splits.train), recipe.batch)
        self.optimiser = _optimiser(detector, recipe)
        self.ema = (
            AveragedModel(detector, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema), use_buffers=True)
            if recipe.ema
            else None
        )
        self.start = 0
        self.history: list[EpochMetrics] = []
        self.step = ranks.averaging(self.whole(detector))
        self.batches = Batches(len(splits.train), recipe.batch, ranks, recipe.seed)
        self.judging = Batches(len(splits.validation), recipe.batch, ranks)

    @property
    def judged(self) -> Detector:
        """The network that is validated and kept: the averaged one where the recipe averages."""
        return self.ema.module if self.ema is not None else self.detector  # type: ignore[return-value]

    def whole(self, model: Detector) -> _Step:
        return _Step(model, self.device, self.recipe.precision == "bfloat16")

    def loader(self, data: EpochDataset, batches: Batches) -> DataLoader[Any]:
        return DataLoader(
            data,
            batch_sampler=batches,
            num_workers=self.recipe.workers,
            collate_fn=functools.partial(collate, targets=self.detector.targets),
            worker_init_fn=_one_thread,
            prefetch_factor=2 if self.recipe.workers else None,
        )

    def forward(self, step: nn.Module, inputs: Tensor, truth: Truth) -> tuple[Tensor, Tensor]:
        """Logits (B,) and the mean loss of these samples."""
        batch = self.detector.prepare(inputs.numpy()).to(self.device)
        if batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        found: tuple[Tensor, Tensor] = step(batch, truth.to(self.device))
        return found

    def epoch(self, epoch: int, progress: Callable[[Progress], None] | None) -> EpochMetrics:
        began = time.perf_counter()
        # Every epoch draws anew from its own seed (dropout), so that resuming repeats the unbroken run.
        torch.manual_seed(self.recipe.seed * 1_000_003 + epoch + (self.ranks.rank << 40))
        self.splits.train.epoch = self.batches.epoch = epoch
        self.detector.train()
        total, samples, lr = 0.0, 0, 0.0
        for index, (inputs, truth) in enumerate(self.loader(self.splits.train, self.batches)):
            step = epoch * self.steps + index
            lr = self._set_lr(step)
            _, loss = self.forward(self.step, inputs, truth)
            summed, count = self.ranks.total(loss.item() * len(inputs), len(inputs))
            # All ranks see the same sum, so that all stop at the same step.
            if not math.isfinite(summed):
                raise RecipeError(
                    f"recipe {self.recipe.name}: the loss is {summed / count} at step {step}; lower optimiser.lr"
                )
            self.optimiser.zero_grad(set_to_none=True)
            if self.ranks.size > 1:  # shares differ by an item: their mean is to be the batch's
                loss = loss * (len(inputs) * self.ranks.size / count)
            loss.backward()
            if self.recipe.optimiser.clip:
                nn.utils.clip_grad_norm_(self.detector.parameters(), self.recipe.optimiser.clip)
            self.optimiser.step()
            if self.ema is not None:
                self.ema.update_parameters(self.detector)
            total, samples = total + summed, samples + round(count)
            if progress:
                spent = time.perf_counter() - began
                left = (self.recipe.epochs * self.steps - step - 1) * spent / (index + 1)
                progress(
                    Progress(
                        epoch + 1, self.recipe.epochs, index + 1, self.steps, total / samples, samples / spent, left
                    )
                )
        val_loss, auc, judged = self.validate()
        seconds = time.perf_counter() - began
        return EpochMetrics(
            epoch, (epoch + 1) * self.steps, total / samples, val_loss, auc, lr, round(seconds, 2), judged
        )

    @torch.inference_mode()
    def validate(self) -> tuple[float, float, int]:
        """Mean loss and AUC over the validation samples, which are the same in every epoch, and their number."""
        step = self.whole(self.judged.eval())
        self.ranks.same_buffers(self.judged)
        self.splits.validation.epoch = 0
        logits: list[Tensor] = []
        labels: list[Tensor] = []
        losses = 0.0
        for inputs, truth in self.loader(self.splits.validation, self.judging):
            logit, loss = self.forward(step, inputs, truth)
            losses += loss.item() * len(inputs)
            logits.append(logit.cpu())
            labels.append(truth.label)
        (losses,) = self.ranks.total(losses)
        scores, truths = (_joined(self.ranks.gathered([one.numpy() for one in kept])) for kept in (logits, labels))
        fake = truths > 0.5
        return losses / len(fake), float(roc_auc_score(fake, scores)), len(fake)

    def save(self, metrics: EpochMetrics) -> None:
        """last.pt holds all that resuming needs; best.pt the weights of the best epoch so far."""
        self.history.append(metrics)
        if not self.ranks.first:
            return
        if metrics.auc >= max(m.auc for m in self.history):
            _write(self.judged.state_dict(), self.folder / "best.pt")
        state = {
            "recipe": self.recipe.model_dump(),
            "epoch": metrics.epoch,
            "model": self.detector.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimiser": self.optimiser.state_dict(),
            "history": [asdict(m) for m in self.history],
        }
        _write(state, self.folder / "last.pt")
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(asdict(metrics)) + "\n")

    def load(self) -> None:
        path = self.folder / "last.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        before, now = (
            {k: v for k, v in r.items() if k not in _MAY_CHANGE} for r in (state["recipe"], self.recipe.model_dump())
        )
        changed = sorted(key for key in now if before.get(key) != now[key])
        if changed:
            raise RecipeError(
                f"{self.folder} holds a run with other values of {', '.join(changed)}: name another folder"
            )
        self.detector.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.history = [EpochMetrics(**m) for m in state["history"]]
        self.start = state["epoch"] + 1

    def result(self, interrupted: bool) -> TrainResult:
        best = max(self.history, key=lambda m: (m.auc, m.epoch))
        if self.ranks.first:
            kept = torch.load(self.folder / "best.pt", map_location=self.device, weights_only=True)
            self.detector.load_state_dict(kept)
        return TrainResult(self.detector.eval(), best, self.history, interrupted)

    def _set_lr(self, step: int) -> float:
        settings, last = self.recipe.optimiser, self.recipe.epochs * self.steps
        warm = settings.warmup * last
        if step < warm:
            factor = (step + 1) / warm
        elif settings.schedule == "cosine":
            factor = 0.5 * (1 + math.cos(math.pi * (step - warm) / max(last - warm, 1)))
        else:
            factor = 1.0
        for group in self.optimiser.param_groups:
            group["lr"] = settings.lr * factor
        return settings.lr * factor


def _joined(parts: list[list[NDArray[np.float32]]]) -> NDArray[np.float32]:
    return np.concatenate([one for part in parts for one in part])


_MAY_CHANGE = {"workers", "threads"}
"""Keys that do not change what is learned, so a run may be resumed with others."""


def _optimiser(detector: Detector, recipe: Recipe) -> torch.optim.Optimizer:
    settings = recipe.optimiser
    # Weight decay is for weights: on biases and norms it only shrinks what the layer's scale depends on.
    decayed = [p for p in detector.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in detector.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.momentum > 0)
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=settings.lr)


def _one_thread(worker: int) -> None:
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _write(state: dict[str, Any], path: Path) -> None:
    """Whole or not at all: a run killed while it writes keeps its previous checkpoint."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)
