"""Training steps on a GPU in bfloat16: samples a second, the share of waiting for data, the share of the roofline.

Part of `python -m benchmarks.train --what gpu`. Each recipe keeps its batch, `accumulate` is 1, and what it freezes for
some epochs only learns; averaged weights, validation and checkpoints are left out. Loaders are processes, one a core.

The roofline (Williams, Waterman, Patterson, CACM 52, 2009) is that of this device as measured in the same run: the
product of two large bfloat16 matrices, and a copy. A step's bound is the sum over its operations, each of which takes
at least the longer of its arithmetic (torch.utils.flop_counter) and its traffic (what it reads and writes, once each).
Recurrent layers of cuDNN count by their traffic alone.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from train.feed import Batch, Feed
from train.optim import Freezer, optimiser
from train.ranks import Batches, Ranks
from train.recipe import EpochDataset, RecipeError, build_data, create_detector, load_recipe
from train.step import Stepper

WARM, BLOCKS, STEPS = 8, 5, 10
"""Steps that are not counted, and the blocks that are, of so many steps each."""
SIDE = 8192
"""Of the matrices whose product is timed; the copy is of one."""
PEAK_TRIES = 20
TARGET_WAIT = 0.05
MISSING = {
    "bench": "train",
    "metric": "on a GPU",
    "value": None,
    "unit": "missing: torch.cuda is not available on this machine",
    "n": 0,
}
"""The row of a machine without a GPU."""
Case = tuple[str, Path, Sequence[str]]
"""A recipe's name, the data that it is trained on, and overrides."""


@dataclass(frozen=True)
class Device:
    """What it reaches at best: `flops` a second in bfloat16, `bandwidth` in bytes a second, read and written."""

    name: str
    flops: float
    bandwidth: float

    @classmethod
    def measured(cls, name: str, side: int = SIDE) -> Device:
        """The best of some tries."""
        one, other = (torch.randn(side, side, device=name, dtype=torch.bfloat16) for _ in range(2))
        into = torch.empty_like(one)
        product = _fastest(name, lambda: torch.mm(one, other, out=into))
        copy = _fastest(name, lambda: into.copy_(one))
        return cls(name, 2 * side**3 / product, 2 * one.nbytes / copy)


class Roofline(TorchDispatchMode):
    """Counts what runs within it: `flop`, bytes `moved`, and `seconds` that the device needs at least."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device, self.flop, self.moved, self.seconds = device, 0, 0, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not func.is_view:
            count = flop_registry.get(func._overloadpacket)
            flop = count(*args, **kwargs, out_val=out) if count else 0
            moved = _traffic(func, args, kwargs, out)
            self.flop += flop
            self.moved += moved
            self.seconds += max(flop / self.device.flops, moved / self.device.bandwidth)
        return out


def _traffic(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """Bytes that an operation reads and writes, each tensor once; one that it changes is read and written."""
    arguments = func._schema.arguments
    given = dict(zip((one.name for one in arguments), args, strict=False)) | kwargs
    changed = [given.get(one.name) for one in arguments if one.alias_info and one.alias_info.is_write]
    return sum(map(_bytes, tree_leaves((args, kwargs)))) + sum(map(_bytes, tree_leaves(changed or out)))


def _bytes(value: Any) -> int:
    # One that is expanded is no larger than what it shows again and again.
    return min(value.nbytes, value.untyped_storage().nbytes()) if isinstance(value, Tensor) else 0


class Again(EpochDataset):
    """The items of `data`, so many times over, each time another sample."""

    def __init__(self, data: EpochDataset, times: int) -> None:
        self.data, self.times, self.finish = data, times, data.finish

    def __len__(self) -> int:
        return len(self.data) * self.times

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.data.epoch, item = divmod(index, len(self.data))
        return self.data[item]


def there() -> bool:
    """Whether this machine has a GPU that torch can use."""
    return torch.cuda.is_available()


def measured(cases: Sequence[Case], name: str = "cuda", side: int = SIDE) -> Iterator[dict[str, Any]]:
    """Rows as they come. A recipe that cannot be trained there has one that says why."""
    what = torch.cuda.get_device_name(name) if name.startswith("cuda") else name
    device = Device.measured(name, side)
    yield _row(f"{what}: product of bfloat16 matrices", [device.flops / 1e12], "TFLOP/s")
    yield _row(f"{what}: copy", [device.bandwidth / 1e9], "GB/s")
    for case in cases:
        try:
            yield from steps(case, device, os.cpu_count() or 1)
        except (RecipeError, torch.OutOfMemoryError) as error:
            yield MISSING | {"metric": f"{case[0]} on {what}", "unit": f"missing: {str(error)[:300]}"}


def steps(case: Case, device: Device, loaders: int, blocks: int = BLOCKS, each: int = STEPS) -> list[dict[str, Any]]:
    """A recipe's rows. Raises RecipeError where it cannot be trained on the case's data."""
    name, place, overrides = case
    more = ["precision=bfloat16", "accumulate=1", f"workers={loaders}", "threads=null"]
    recipe = load_recipe(name, [*overrides, *more])
    torch.manual_seed(recipe.seed)
    detector = create_detector(recipe)
    splits = build_data(recipe, detector, place)
    detector.to(device.name).train()
    Freezer(detector, recipe).set(recipe.epochs)
    for parameter in detector.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    stepper = Stepper(detector, recipe, Ranks(device=device.name), optimiser(detector, recipe))
    wanted = (WARM + blocks * each) * recipe.batch
    data = Again(splits.train, -(-wanted // len(splits.train)))
    feed = Feed(data, Batches(wanted, recipe.batch, Ranks(), 0), recipe.workers, detector.targets, device.name)
    rates, waits = [], []
    batches = iter(feed)
    first = _taken(batches, stepper, WARM)
    for _ in range(blocks):
        began, waited = time.perf_counter(), feed.waited
        _taken(batches, stepper, each)
        spent = time.perf_counter() - began
        rates.append(each * len(first.inputs) / spent)
        waits.append((feed.waited - waited) / spent)
    with Roofline(device) as bound:
        stepper([first])
    told = f"{name} of {recipe.batch} items in bfloat16 on {device.name}"
    shares = [bound.seconds * rate / len(first.inputs) for rate in rates]
    counted = {"gflop": round(bound.flop / 1e9, 3), "mib": round(bound.moved / 2**20, 1)}
    return [
        _row(told, rates, "samples/s"),
        _row(f"{told}: waiting for data", waits, "of the time", baseline=TARGET_WAIT),
        _row(f"{told}: of the roofline", shares, "of 1", **counted, bound_ms=round(bound.seconds * 1e3, 3)),
    ]


def _taken(batches: Iterator[Batch], stepper: Stepper, count: int) -> Batch:
    """So many steps; the last batch. A step ends with figures on the host, so its time is the device's too."""
    for _ in range(count):
        batch = next(batches)
        stepper([batch])
    return batch


def _fastest(name: str, work: Callable[[], Any]) -> float:
    """Seconds of the fastest of some tries after as many to warm up."""
    times = []
    for _ in range(2 * PEAK_TRIES):
        _settled(name)
        began = time.perf_counter()
        work()
        _settled(name)
        times.append(time.perf_counter() - began)
    return min(times[PEAK_TRIES:])


def _settled(name: str) -> None:
    if name.startswith("cuda"):
        torch.cuda.synchronize(name)


def _row(metric: str, values: Sequence[float], unit: str, **more: Any) -> dict[str, Any]:
    value, spread = statistics.median(values), max(values) - min(values)
    row = {"bench": "train", "metric": metric, "value": round(value, 4), "unit": unit}
    return row | more | {"n": len(values), "spread": round(spread, 4)}
