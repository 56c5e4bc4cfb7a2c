"""What ends a run in its midst: figures that are not finite, and memory that does not suffice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

SHOWN = 64
"""Items that a message lists, at most."""
NO_MEMORY = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What this machine's allocator, a device's and its libraries say in errors without a type of their own."""


class NotFinite(ArithmeticError):
    """`what` (the loss, the gradient) is `value`; `items` are those of this rank's batches that show it."""

    def __init__(self, what: str, value: float, items: list[int]) -> None:
        super().__init__(f"{what} is {value}")
        self.items = items


def listed(items: Sequence[int]) -> str:
    """Items in order, the first `SHOWN` of them."""
    shown = ", ".join(map(str, sorted(items)[:SHOWN]))
    return shown if len(items) <= SHOWN else f"{shown}, ... ({len(items)} in all)"


def out_of_memory(error: BaseException) -> bool:
    """Whether a device, or this machine, had no memory left for a tensor."""
    return isinstance(error, torch.OutOfMemoryError) or any(said in str(error) for said in NO_MEMORY)


def largest(items: int, attempt: Callable[[int], None]) -> int:
    """The most of `items` / 2, / 4, ... that `attempt` takes without running out of memory; 0 where not even 1 fits."""
    while items > 1:
        items //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if _fits(items, attempt):
            return items
    return 0


def _fits(items: int, attempt: Callable[[int], None]) -> bool:
    # Only once the exception is gone, with the frames that it holds, is their memory free for the next attempt.
    try:
        attempt(items)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return False
    return True
