"""Files of a run: written whole or not at all, read only where they are this run's."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from train.recipe import Recipe, RecipeError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
MAY_CHANGE = {"workers", "threads"}
"""Keys that do not change what is learned, so a run may be resumed with others."""


@contextmanager
def room(folder: Path | str) -> Iterator[None]:
    """Raises RecipeError where the disk of `folder` is full."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause: BaseException | None = error
        while cause is not None and not (isinstance(cause, OSError) and cause.errno in FULL):
            cause = cause.__cause__ or cause.__context__  # torch hides what a write said behind an error of its own
        if cause is None:
            raise
        raise RecipeError(
            f"{folder}: no room to write ({os.strerror(cause.errno or 0)}); what was saved before is whole: free some"
            " space and continue with --resume, or name a folder on another disk with --out"
        ) from error


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Raises RecipeError where `folder` cannot be written, its disk full or not."""
    try:
        with room(folder):
            yield
    except OSError as error:
        raise RecipeError(f"{folder} cannot be written ({error.strerror or error}): name another with --out") from error


def write(state: dict[str, Any] | str, path: Path) -> None:
    """Text, or what torch saves; whole or not at all: the previous file stays until the new one is on the disk.

    Raises RecipeError where the disk is full or the folder cannot be written.
    """
    part = path.with_name(path.name + ".part")
    with writable(path.parent):
        try:
            with part.open("wb") as file:
                if isinstance(state, str):
                    file.write(state.encode())
                else:
                    torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def read(path: Path, device: str) -> dict[str, Any]:
    """A checkpoint. Raises RecipeError where the file is none, naming it."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # unpickling, zip and file errors of many kinds
        raise RecipeError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}): name another folder"
        ) from error
    if not isinstance(state, dict):
        raise RecipeError(f"{path} is no checkpoint of a training run: name another folder")
    return state


def same_run(state: dict[str, Any], recipe: Recipe, folder: Path) -> None:
    """Raises RecipeError where the checkpoint is not one of `recipe`, saying what differs."""
    now, before = recipe.model_dump(), state.get("recipe", {})
    if before.get("detector", recipe.detector) != recipe.detector:
        raise RecipeError(
            f"{folder} holds a run of the detector {before['detector']}, and recipe {recipe.name} trains"
            f" {recipe.detector}: name another folder with --out"
        )
    if missing := sorted(now.keys() - before.keys()):
        raise RecipeError(
            f"{folder} holds a run of another version, whose recipe has no {', '.join(missing)}: finish it with that"
            " version, or name another folder"
        )
    changed = sorted(key for key in now if key not in MAY_CHANGE and before[key] != now[key])
    if changed:
        raise RecipeError(f"{folder} holds a run with other values of {', '.join(changed)}: name another folder")
