"""The processes that train one network together: who this one is, and what they exchange. Plain torch, no Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import Sampler

from train.imbalance import BalancedOrder
from train.recipe import EpochDataset, Recipe, RecipeError


@dataclass(frozen=True)
class Ranks:
    """This process is number `rank` of `size`, on `device`; alone, nothing is exchanged."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @classmethod
    def here(cls, device: str) -> Ranks:
        """From torch's process group where one was started."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size(), device)
        return cls(device=device)

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def total(self, *values: float) -> list[float]:
        """Each value summed over all ranks, the same on each."""
        return self.totalling(*values)()

    def totalling(self, *values: float) -> Callable[[], list[float]]:
        """Begins `total`; what it gives is asked for later, so that a rank that is ahead need not wait meanwhile."""
        if self.size == 1:
            return lambda: list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        under_way = dist.all_reduce(summed, async_op=True)

        def found() -> list[float]:
            under_way.wait()
            return [float(value) for value in summed.tolist()]

        return found

    def gathered(self, value: Any) -> list[Any]:
        """What each rank gave, in the order of ranks."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def same_buffers(self, module: nn.Module) -> None:
        """The running statistics of rank 0 on every rank: each keeps those of its own share of the batches."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)

    def without_exchange(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Forward and backward within it add to this rank's own gradients, which the next backward averages."""
        return module.no_sync() if isinstance(module, nn.parallel.DistributedDataParallel) else nullcontext()

    def averaging(self, module: nn.Module) -> nn.Module:
        """`module` with its gradients averaged over the ranks in backward."""
        if self.size == 1:
            return module
        return nn.parallel.DistributedDataParallel(
            module,
            find_unused_parameters=True,  # a compact profile may leave a part of its network out of the loss
            broadcast_buffers=False,  # `same_buffers` does before they are used
            gradient_as_bucket_view=True,
        )


class Batches(Sampler[list[int]]):
    """This rank's share of every batch of `batch` items.

    Batches do not depend on the number of ranks: each takes a contiguous part, sizes differ by one at most. With
    `seed` the order is a permutation that follows from (seed, epoch) alone, so that a resumed run sees what an unbroken
    one sees, and the last, smaller batch is left out (batch norm) unless it is the only one. `balanced` gives another
    order, of whole batches; each rank then takes every so-manieth item, so that all get their share of the rarer class.
    """

    def __init__(
        self, length: int, batch: int, ranks: Ranks, seed: int | None = None, balanced: BalancedOrder | None = None
    ) -> None:
        self.length, self.batch, self.ranks, self.seed, self.epoch = length, batch, ranks, seed, 0
        self.balanced = balanced

    def __len__(self) -> int:
        if self.balanced is not None:
            return self.balanced.batches
        return max(self.length // self.batch, 1) if self.seed is not None else -(-self.length // self.batch)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(self.length)
        if self.balanced is not None:
            self.balanced.epoch = self.epoch
            order = np.fromiter(self.balanced, np.int64)
        elif self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch, 0x5F]).permutation(self.length)
        for step in range(len(self)):
            whole = order[step * self.batch : (step + 1) * self.batch]
            start, end = (len(whole) * part // self.ranks.size for part in (self.ranks.rank, self.ranks.rank + 1))
            own = whole[start:end] if self.balanced is None else whole[self.ranks.rank :: self.ranks.size]
            if len(own):
                yield own.tolist()


def training_batches(recipe: Recipe, data: EpochDataset, ranks: Ranks = Ranks()) -> Batches:
    """In the order that the recipe asks for.

    Raises:
        RecipeError: `sampling.minimum` for items that hold real and fake, for a single class, for a batch that cannot
            hold both, or less of the rarer class than ranks.
    """
    minimum = recipe.sampling.minimum
    if minimum is None:
        return Batches(len(data), recipe.batch, ranks, recipe.seed)
    where = f"recipe {recipe.name}, sampling.minimum"
    if data.labels is None:
        raise RecipeError(
            f"{where}: each item of data.kind {recipe.data.kind} holds real and fake: leave it out, or set"
            " sampling.singles=true"
        )
    try:
        order = BalancedOrder(data.labels, recipe.batch, recipe.seed, minimum)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from error
    if order.share < ranks.size:
        raise RecipeError(
            f"{where}: {ranks.size} workers cannot share {order.share} of the rarer class: set it to {ranks.size}"
        )
    return Batches(len(data), recipe.batch, ranks, recipe.seed, order)
