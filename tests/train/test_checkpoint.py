"""A full disk leaves what was saved whole, and says what to do; the limit on file sizes stands in for the disk."""

import errno
import multiprocessing
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import Small, recipe, run
from torch import nn

from train.checkpoint import room, write
from train.monitor import Monitor
from train.recipe import RecipeError

FULL = Path("/dev/full")
ONE_THREAD = recipe(epochs=3, threads=1)
"""Threads of a process that forks are not there in its child, and sums depend on how many there are."""


@pytest.fixture(autouse=True)
def own_threads() -> Iterator[None]:
    """A recipe's number of threads stays with its test."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Wide(Small):
    """Its checkpoint does not fit into what is left."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 20_000), nn.ReLU(), nn.Linear(20_000, 1))


def fill_after_two_epochs(folder: Path, told: Path) -> None:
    def fill(metrics: Any) -> None:
        if metrics.epoch == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    try:
        run(folder, ONE_THREAD, kind=Wide, on_epoch=fill)
    except RecipeError as error:
        told.write_text(str(error))


def test_a_full_disk_keeps_the_previous_checkpoint_and_the_run_can_go_on(tmp_path: Path) -> None:
    folder, told = tmp_path / "run", tmp_path / "told.txt"
    process = multiprocessing.get_context("fork").Process(target=fill_after_two_epochs, args=(folder, told))
    process.start()
    process.join(100)
    assert process.exitcode == 0
    message = told.read_text()
    assert str(folder) in message and "no room to write (File too large)" in message and "--resume" in message
    assert not list(folder.glob("*.part"))
    kept = torch.load(folder / "last.pt", weights_only=True)
    assert kept["epoch"] == 1 and (folder / "last.pt").stat().st_size > 100_000
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2
    result = run(folder, ONE_THREAD, kind=Wide, resume=True)
    whole = run(tmp_path / "whole", ONE_THREAD, kind=Wide)
    assert [m.train_loss for m in result.history] == [m.train_loss for m in whole.history]


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_device_without_room_is_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="No space left on device"), room(tmp_path), FULL.open("wb") as file:
        torch.save({"a": torch.zeros(1000)}, file)
    with pytest.raises(RecipeError, match="No space left on device"), room(tmp_path), FULL.open("w") as file:
        file.write("words")
        file.flush()


def test_a_folder_that_cannot_be_written_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a page")
    with pytest.raises(RecipeError, match=r"file cannot be written \(File exists\): name another with --out"):
        run(tmp_path / "file", ONE_THREAD)
    with pytest.raises(RecipeError, match=r"run cannot be written \(Not a directory\)"):
        run(tmp_path / "file" / "run", ONE_THREAD)


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), room(tmp_path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    with pytest.raises(RuntimeError, match="shape"), room(tmp_path):
        raise RuntimeError("shape")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    write("first", tmp_path / "a.txt")
    with pytest.raises(Exception, match="pickle"):
        write({"a": lambda: None}, tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "first" and len(list(tmp_path.iterdir())) == 1


def test_curves_that_find_no_room_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, folder: Path, step: int) -> None: ...

        def add(self, *given: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None: ...

    monkeypatch.setattr("train.monitor.Curves", Full)
    with pytest.raises(RecipeError, match="no room to write"), Monitor(recipe(), tmp_path) as monitor:
        monitor._draw({"a": 1.0}, 1)
