"""How a command ends: which errors speak for themselves, and what may still run."""

from __future__ import annotations

import os
import sys
import threading

KNOWN_ERRORS = {
    "ui.errors": ("UsageError",),
    "ui.client": ("ApiError",),
    "detectors.store": ("WeightsError",),
    "detectors.checkpoints": ("CheckpointError",),
    "train.recipe": ("RecipeError",),
    "preprocessing.models": ("ModelFileError",),
    "preprocessing.errors": ("MediaError",),
}
"""Errors that say themselves what is wrong and what to do; by module, because importing all of them takes seconds."""


def is_known(error: Exception) -> bool:
    """Whether the error says what is wrong and what to do."""
    classes = (getattr(sys.modules[m], n) for m, names in KNOWN_ERRORS.items() if m in sys.modules for n in names)
    return isinstance(error, tuple(classes))


def leave_hanging_detectors(status: int) -> None:
    """End the process at once where a detector that overran its deadline still runs: native code in a thread would
    otherwise crash the interpreter's orderly end."""
    local = sys.modules.get("detectors.local")
    if local is None:
        return
    hanging = [thread for thread in threading.enumerate() if thread.name.startswith(local.DETECTOR_THREAD)]
    for thread in hanging:
        thread.join(0.5)  # most have answered and are about to end
    if any(thread.is_alive() for thread in hanging):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
