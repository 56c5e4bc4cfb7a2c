"""One step of training: the gradient of one batch or several, averaged over the ranks, and the optimiser's move."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from detectors.base import Detector, Truth
from train.feed import Batch
from train.guard import NotFinite, largest
from train.optim import norm, sharpest
from train.ranks import Ranks
from train.recipe import Recipe, RecipeError
from train.teacher import Teacher


class NetworkAndLoss(nn.Module):
    """As one module, so that what averages gradients sees every parameter that either uses."""

    def __init__(self, detector: Detector, device: str, half: bool, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.detector, self.kind, self.autocast = detector, device.partition(":")[0], half
        self.teacher = teacher

    def forward(self, batch: Tensor, truth: Truth) -> tuple[Tensor, Tensor]:
        """Logits (B,) and the mean loss, in float32."""
        with torch.autocast(self.kind, torch.bfloat16, enabled=self.autocast):
            output = self.detector(batch)
            taught = self.teacher(batch, output) if self.teacher is not None and self.detector.training else None
        output.logit = output.logit.float()
        loss = self.detector.loss(output, truth)
        return output.logit, loss if taught is None else loss + taught


class Stepper:
    """Moves the weights of `detector`, one group of batches after another."""

    def __init__(self, detector: Detector, recipe: Recipe, ranks: Ranks, optimiser: torch.optim.Optimizer) -> None:
        self.detector, self.recipe, self.ranks, self.optimiser = detector, recipe, ranks, optimiser
        self.teacher = Teacher.of(recipe, detector, ranks.device)
        self.plain = self.whole(detector)
        self.module = ranks.averaging(self.plain)
        if recipe.compile:
            self.plain.compile()

    def whole(self, model: Detector) -> NetworkAndLoss:
        """Network and loss at the recipe's precision."""
        return NetworkAndLoss(model, self.ranks.device, self.recipe.precision == "bfloat16", self.teacher)

    def forward(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits (B,) and the mean loss of these samples."""
        given = batch.inputs.numpy() if batch.inputs.device.type == "cpu" else batch.inputs
        inputs = self.detector.prepare(given).to(self.ranks.device)
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        found: tuple[Tensor, Tensor] = module(inputs, batch.truth.to(self.ranks.device))
        return found

    def __call__(self, group: Sequence[Batch]) -> tuple[float, int]:
        """One step by the gradient of the mean loss over all samples of the group, on all ranks.

        Returns the sum of the samples' losses and their number, the same on all ranks.

        Raises:
            NotFinite: on all ranks, before anything but running statistics has changed.
        """
        # Needed in the backward pass first: a rank whose data came late is not waited for until then.
        samples = self.ranks.totalling(sum(len(batch.inputs) for batch in group))
        settings, device = self.recipe.optimiser, self.ranks.device
        state = _rng(device) if settings.sam is not None else {}
        summed, length = self._gradient(group, samples)
        if settings.sam is not None:
            with sharpest(self.detector, settings.sam):
                # The same samples under the same dropout.
                _set_rng(device, state)
                _, length = self._gradient(group, samples)
        if settings.clip:
            nn.utils.clip_grads_with_norm_(self.detector.parameters(), settings.clip, length)
        self.optimiser.step()
        (count,) = samples()
        return summed, round(count)

    def _gradient(self, group: Sequence[Batch], samples: Callable[[], list[float]]) -> tuple[float, Tensor]:
        """Sets the gradient of the mean over `samples()` samples; the sum of losses, the gradient's norm.

        Raises NotFinite.
        """
        self.optimiser.zero_grad(set_to_none=True)
        losses: list[Tensor] = []
        for number, batch in enumerate(group):
            last = number == len(group) - 1
            with nullcontext() if last else self.ranks.without_exchange(self.module):
                loss = self._compiled(batch)
                losses.append(loss.detach())
                # Backward averages over ranks, and batches and shares differ in size: their mean is to be the group's.
                (count,) = samples()
                share = len(batch.inputs) * self.ranks.size / count
                (loss if share == 1 else loss * share).backward()
        own = [float(loss) for loss in torch.stack(losses).tolist()]
        (summed,) = self.ranks.total(sum(loss * len(batch.inputs) for loss, batch in zip(own, group, strict=True)))
        if not math.isfinite(summed):
            bad = (batch for loss, batch in zip(own, group, strict=True) if not math.isfinite(loss))
            raise NotFinite("loss", summed / count, [item for batch in bad for item in batch.items])
        length = norm(p.grad for p in self.detector.parameters() if p.grad is not None)
        if not math.isfinite(found := float(length)):
            raise NotFinite("gradient", found, [item for batch in group for item in batch.items])
        return summed, length

    def _compiled(self, batch: Batch) -> Tensor:
        if not self.recipe.compile:
            return self.forward(self.module, batch)[1]
        from torch._dynamo.exc import TorchDynamoException

        try:
            return self.forward(self.module, batch)[1]
        except TorchDynamoException as error:
            raise RecipeError(
                f"recipe {self.recipe.name}: torch.compile gave up ({str(error).strip().splitlines()[0][:200]}): set"
                " compile=false"
            ) from error

    def culprits(self, items: Sequence[int], load: Callable[[int], Batch]) -> list[int]:
        """Those of `items` whose loss or gradient is not finite for themselves alone."""
        self.detector.train()
        found = []
        for item in items:
            # Twice, so that batch norm has two values at least.
            loss, gradients = self._apart(load(item).twice())
            if not (math.isfinite(float(loss)) and math.isfinite(float(norm(gradients)))):
                found.append(item)
        return found

    def _apart(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Loss and gradients that reach neither the other ranks nor the parameters' own."""
        _, loss = self.forward(self.whole(self.detector), batch)
        learned = [p for p in self.detector.parameters() if p.requires_grad]
        return loss.detach(), [g for g in torch.autograd.grad(loss, learned, allow_unused=True) if g is not None]

    def fitting(self, batch: Batch) -> int:
        """Items of a batch that fit into memory, by trying a half, a quarter, ...; 0 where not even one does.

        An attempt is a forward and backward pass beside the memory that the optimiser will hold.
        """
        self.optimiser.zero_grad(set_to_none=True)
        settings = self.recipe.optimiser
        slots = 0 if self.optimiser.state else (settings.momentum > 0 if settings.name == "sgd" else 2)
        slots += settings.sam is not None

        def attempt(items: int) -> None:
            learned = [p for p in self.detector.parameters() if p.requires_grad]
            held = [torch.empty_like(p) for p in learned for _ in range(slots)]
            self._apart(batch.first(items))
            del held

        return largest(len(batch.items), attempt)


def _rng(device: str) -> dict[str, Any]:
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.startswith("cuda") else {})


def _set_rng(device: str, state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
