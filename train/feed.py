"""Batches on their way from a data set to the training step."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from detectors.base import Truth
from train.ranks import Batches
from train.recipe import EpochDataset

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


def stacked(items: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Items key by key, one behind the other: for data that finishes its batches itself."""
    return {key: torch.from_numpy(np.concatenate([item[key] for item in items])) for key in items[0]}


@dataclass
class Batch:
    """Samples `inputs` (B, ...) of the data set's `items`."""

    items: list[int]
    inputs: Tensor
    truth: Truth

    def first(self, items: int) -> Batch:
        """The samples of its first `items`, taken as equally many each."""
        n = -(-len(self.inputs) * items // len(self.items))
        truth = self.truth
        some = Truth(
            truth.label[:n],
            None if truth.frame_label is None else truth.frame_label[:n],
            None if truth.source is None else truth.source[:n],
            {name: value[:n] for name, value in truth.maps.items()},
        )
        return Batch(self.items[:items], self.inputs[:n], some)

    def twice(self) -> Batch:
        """The same samples again behind themselves."""
        truth = self.truth
        both = Truth(
            truth.label.repeat(2),
            None if truth.frame_label is None else torch.cat([truth.frame_label] * 2),
            None if truth.source is None else truth.source.repeat(2),
            {name: torch.cat([value] * 2) for name, value in truth.maps.items()},
        )
        return Batch(self.items * 2, torch.cat([self.inputs] * 2), both)


class Feed:
    """A pass through a data set in the order of `batches`, made by `workers` processes, finished on `device` by data
    that does."""

    def __init__(
        self, data: EpochDataset, batches: Batches, workers: int, targets: Targets, device: str = "cpu"
    ) -> None:
        self.data, self.batches, self.workers, self.device = data, batches, workers, device
        self.targets = targets
        self.finish: Callable[..., tuple[Tensor, Truth]] | None = getattr(data, "finish", None)
        self.collate: Callable[[list[dict[str, Any]]], Any] = (
            stacked if self.finish else functools.partial(collate, targets=targets)
        )
        self.waited = 0.0
        """Seconds that passed until batches were there, finished: what the training step waited."""

    def __iter__(self) -> Iterator[Batch]:
        if self.workers:
            # OpenCV's threads do not live on in a forked process, which would wait for them for ever.
            cv2.setNumThreads(1)
        loader = DataLoader(
            self.data,
            batch_sampler=self.batches,
            num_workers=self.workers,
            collate_fn=self.collate,
            worker_init_fn=_one_thread,
            prefetch_factor=2 if self.workers else None,
        )
        return self._timed(self._made(loader))

    def groups(self, size: int) -> Iterator[list[Batch]]:
        """`size` batches in each, fewer in the last."""
        rest = iter(self)
        while group := list(itertools.islice(rest, size)):
            yield group

    def batch(self, item: int) -> Batch:
        """Of that item alone, made here."""
        return Batch([item], *self._finished(self.collate([self.data[item]])))

    def _finished(self, given: Any) -> tuple[Tensor, Truth]:
        return self.finish(given, self.device, self.targets) if self.finish else given

    def _made(self, loader: DataLoader[Any]) -> Iterator[Batch]:
        # The order is drawn twice, from the same seed: a loader does not tell which items it gives.
        for items, given in zip(self.batches, loader, strict=True):
            yield Batch(items, *self._finished(given))

    def _timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        began = time.perf_counter()
        for batch in batches:
            self.waited += time.perf_counter() - began
            yield batch
            began = time.perf_counter()


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
