"""The processes that train one network together: who this one is, and what they exchange. Plain torch, no Ray."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import Sampler


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
        if self.size == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(summed)
        return [float(value) for value in summed.tolist()]

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

    def averaging(self, module: nn.Module) -> nn.Module:
        """`module` with its gradients averaged over the ranks in backward."""
        if self.size == 1:
            return module
        # A compact profile may leave a part of its network out of the loss.
        return nn.parallel.DistributedDataParallel(module, find_unused_parameters=True)


class Batches(Sampler[list[int]]):
    """This rank's share of every batch of `batch` items.

    Batches do not depend on the number of ranks: each takes a contiguous part, sizes differ by one at most. With
    `seed` the order is a permutation that follows from (seed, epoch) alone, so that a resumed run sees what an unbroken
    one sees, and the last, smaller batch is left out (batch norm) unless it is the only one.
    """

    def __init__(self, length: int, batch: int, ranks: Ranks, seed: int | None = None) -> None:
        self.length, self.batch, self.ranks, self.seed, self.epoch = length, batch, ranks, seed, 0

    def __len__(self) -> int:
        return steps_per_epoch(self.length, self.batch) if self.seed is not None else -(-self.length // self.batch)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(self.length)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch, 0x5F]).permutation(self.length)
        for step in range(len(self)):
            whole = order[step * self.batch : (step + 1) * self.batch]
            start, end = (len(whole) * part // self.ranks.size for part in (self.ranks.rank, self.ranks.rank + 1))
            if end > start:
                yield whole[start:end].tolist()


def steps_per_epoch(items: int, batch: int) -> int:
    """The last, smaller batch is left out (batch norm), unless it is the only one."""
    return max(items // batch, 1)
