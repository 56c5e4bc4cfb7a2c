"""Ray Train around the loop: the same curve whatever is killed; what is asked wrongly is said."""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from landmark_sequences import write_sequences

from train.__main__ import JOB, main
from train.distributed import Storage, Workers, _followed, _whatever_happened
from train.monitor import Monitor
from train.recipe import RecipeError, create_detector, data_module, data_settings, load_recipe

OVERRIDES = ["epochs=10", "batch=16", "data.settings.windows=48"]


def curve(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "wait", "step_seconds")} for line in lines
    ]


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sequences(tmp_path_factory.mktemp("data") / "sequences")


@pytest.fixture(scope="module")
def unbroken(sequences: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The curve of the plain loop in two processes that nobody disturbs, without Ray."""
    out = tmp_path_factory.mktemp("unbroken")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.start_processes(plain_rank, (port, sequences, out), 2, start_method="fork")
    return curve(out / "0")


def plain_rank(rank: int, port: int, sequences: Path, out: Path) -> None:
    from train.loop import train

    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    recipe = load_recipe("lrnet-compact", OVERRIDES)
    torch.manual_seed(recipe.seed)
    detector = create_detector(recipe)
    splits = data_module(recipe.data.kind).build(data_settings(recipe), recipe, detector, sequences)
    train(detector, splits, recipe, out / str(rank))
    dist.barrier()
    dist.destroy_process_group()


class Run:
    """`python -m train` in a process of its own, its lines read as they come."""

    def __init__(self, sequences: Path, *more: str, before: Sequence[str] = ()) -> None:
        """`before`: words in front of the command, which may run it elsewhere or twice."""
        command = [sys.executable, "-m", "train", "lrnet-compact", "--data", str(sequences), "--workers", "2", *more]
        # A stranger's cluster in the environment is not joined.
        environment = {**os.environ, "RAY_ADDRESS": "192.0.2.1:6379", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*before, *command, *OVERRIDES],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self.lines: list[str] = []
        self._overdue = threading.Timer(900, self.process.kill)
        self._overdue.start()

    def until(self, start: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith(start):
                return
        raise AssertionError(f"ended before {start!r}: {self.told}")

    def end(self) -> int:
        assert self.process.stdout is not None
        self.lines += self.process.stdout
        code = self.process.wait()
        self._overdue.cancel()
        return code

    @property
    def told(self) -> str:
        return "".join(self.lines)[-4000:]

    def workers(self) -> list[Any]:
        psutil = pytest.importorskip("psutil")
        below = psutil.Process(self.process.pid).children(recursive=True)
        return [one for one in below if "RayTrainWorker" in " ".join(one.cmdline())]


@pytest.mark.slow
@pytest.mark.e2e
def test_a_worker_killed_within_an_epoch_leaves_no_trace(
    sequences: Path, unbroken: list[dict[str, Any]], tmp_path: Path
) -> None:
    run = Run(sequences, "--out", str(tmp_path / "run"))
    run.until("epoch 1: training loss")
    workers = run.workers()
    assert len(workers) == 2, run.told
    workers[0].kill()
    assert run.end() == 0, run.told
    assert curve(tmp_path / "run") == unbroken
    assert "Traceback" not in run.told
    assert run.told.count("epoch 10: training loss") == 1
    kept = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"recipe.yaml", "data.json", "last.pt", "best.pt", "tensorboard"} <= kept
    assert 1 <= len([name for name in kept if name.startswith("checkpoint_2")]) <= 2, "the best and the last"


@pytest.mark.slow
@pytest.mark.e2e
def test_a_stopped_run_goes_on_from_its_storage(
    sequences: Path, unbroken: list[dict[str, Any]], tmp_path: Path
) -> None:
    storage = ["--storage-path", f"file://{tmp_path}/runs", "--out", "mine"]
    run = Run(sequences, *storage)
    run.until("epoch 3: training loss")  # Ray registers a checkpoint a moment after it is reported
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 0, run.told
    assert "stopped by Ctrl-C (continue with --resume)" in run.told
    done = curve(tmp_path / "runs/mine")
    assert 0 < len(done) < 10 and done == unbroken[: len(done)]
    again = Run(sequences, *storage, "--resume")
    assert again.end() == 0, again.told
    assert curve(tmp_path / "runs/mine") == unbroken


OWN_DISK = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
TWICE = """
mount -t tmpfs -o size=40M none "$DISK" && "$@"
test $? = 2 && rm "$DISK/filler" && "$@" --resume && cp "$DISK/run/metrics.jsonl" "$DISK/.."
"""
"""Runs its words on a small disk of its own; where they find it full once more when there is room."""


def has_own_disk() -> bool:
    tried = [*OWN_DISK, "mount -t tmpfs none /mnt"]
    return shutil.which("unshare") is not None and subprocess.run(tried, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.skipif(not has_own_disk(), reason="this system lets nobody mount a disk of his own")
def test_a_full_disk_ends_the_run_at_once_and_it_goes_on_once_there_is_room(
    sequences: Path, unbroken: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setenv("DISK", str(disk))
    run = Run(sequences, "--out", str(disk / "run"), before=[*OWN_DISK, TWICE, "sh"])
    run.until("epoch 3: training loss")
    filler = Path(f"/proc/{run.process.pid}/root{disk}/filler")
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(100_000))
    run.until("python -m train: ")
    assert f"{disk}/run: no room to write (No space left on device)" in run.told and "failed 4 times" not in run.told
    assert run.end() == 0, run.told
    assert curve(tmp_path) == unbroken and "Traceback" not in run.told


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_gpus_that_are_not_there_are_said(sequences: Path, tmp_path: Path) -> None:
    run = Run(sequences, "--out", str(tmp_path / "run"), "--gpu")
    assert run.end() == 2
    assert "2 workers want a GPU each and this machine has 0" in run.told and "Traceback" not in run.told


@pytest.mark.parametrize(("text", "wanted"), [("1", (1, 1)), ("4", (4, 4)), ("2-4", (2, 4))])
def test_a_number_of_workers_or_a_range(text: str, wanted: tuple[int, int]) -> None:
    assert Workers.parse(text) == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "--workers 0 is neither"),
        (["--workers", "4-2"], "--workers 4-2 is neither"),
        (["--workers", "many"], "--workers many is neither"),
        (["--local", "--workers", "2"], "--local trains in this process"),
        (["--workers", "2", "--storage-path", "nowhere://x"], "--storage-path nowhere://x cannot be used"),
        (["--workers", "2", "--address", "127.0.0.1:1"], "no Ray cluster answers at 127.0.0.1:1"),
    ],
)
def test_a_wrong_option_is_said(
    options: list[str], message: str, sequences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lrnet-compact", "--data", str(sequences), "--out", str(tmp_path / "run"), *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("words", [["lrnet-compact"], ["sweep", "lrnet-compact", "--param", "batch=8,16"]])
def test_gpus_that_are_not_there_are_said_before_any_data_is_read(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("train.landmark_dataset.build", None)
    assert main([*words, "--data", str(tmp_path), "--gpu", "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert "1 workers want a GPU each and this machine has 0" in told and told.count("\n") == 1
    assert not (tmp_path / "run").exists()


class Lost(Exception):
    """In the place of Ray's errors."""


class FakeRay:
    """A run that never ends by itself, because its other workers wait."""

    exceptions = SimpleNamespace(RayError=Lost)

    def __init__(self, ends: bool) -> None:
        self.ends, self.cancelled = ends, False

    def wait(self, running: list[str], timeout: float) -> tuple[list[str], list[str]]:
        return (running, []) if self.ends else ([], running)

    def cancel(self, running: str, force: bool) -> None:
        self.cancelled = force

    def get(self, running: str) -> dict[str, Any]:
        return {"refused": "training failed 4 times, last: worker 1: Connection closed by peer"}


class Gone:
    """A board whose process is lost."""

    def qsize(self) -> int:
        raise Lost("The actor died unexpectedly")

    def get_nowait_batch(self, count: int) -> list[dict[str, Any]]:
        raise AssertionError("nobody is there to be asked")


class FakeBoard:
    def __init__(self, news: list[dict[str, Any]]) -> None:
        self.news = news

    def qsize(self) -> int:
        return len(self.news)

    def get_nowait_batch(self, count: int) -> list[dict[str, Any]]:
        given, self.news = self.news[:count], self.news[count:]
        return given


@pytest.mark.parametrize("ends", [True, False])
def test_what_one_worker_refuses_ends_the_run_and_is_what_is_said(
    ends: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.distributed.GRACE_S", 0.05)
    ray, told = FakeRay(ends), "a batch of 16 does not fit into the memory of cuda:1; 8 would"
    with Monitor(load_recipe("lrnet-compact"), None) as monitor:
        found = _followed(ray, "run", FakeBoard([{"refused": told}]), monitor)
    assert found == {"refused": told} and ray.cancelled is not ends


def test_a_lost_board_ends_the_run_with_the_way_out(tmp_path: Path) -> None:
    ray = FakeRay(ends=False)
    with Monitor(load_recipe("lrnet-compact"), None) as monitor, pytest.raises(RecipeError, match="with --resume"):
        _followed(ray, "run", Gone(), monitor)
    assert ray.cancelled


@pytest.mark.parametrize("comes", [True, False])
def test_what_a_cluster_lacks_is_not_waited_for_without_end(comes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.distributed.WAIT_S", 0.0)
    ray = FakeRay(ends=False)

    def lacking() -> str:
        ray.ends = comes
        return "" if comes else "4 GPU (now 0)"

    with Monitor(load_recipe("lrnet-compact"), None) as monitor:
        if comes:
            assert "refused" in _followed(ray, "run", FakeBoard([]), monitor, lacking)
            return
        with pytest.raises(RecipeError, match=r"did not get 4 GPU \(now 0\).*or leave --gpu out"):
            _followed(ray, "run", FakeBoard([]), monitor, lacking)
    assert ray.cancelled


@pytest.mark.parametrize("options", [[], ["--out", "runs/mine"], ["--local"], ["--workers", "2"]])
def test_a_job_whose_run_would_be_lost_is_refused(
    options: list[str], sequences: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(JOB, "{}")
    assert main(["lrnet-compact", "--data", str(sequences), *options]) == 2
    assert "name a place that lasts with --storage-path, or an absolute --out" in capsys.readouterr().err
    assert main(["lrnet-compact", "--data", str(sequences), *options, "--dry-run"]) == 0


def test_a_file_in_the_place_of_the_run_is_named(
    sequences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").write_text("a page")
    for more in ([], ["--workers", "2"]):
        assert main(["lrnet-compact", "--data", str(sequences), "--out", str(tmp_path / "run"), *more]) == 2
        told = capsys.readouterr().err
        assert str(tmp_path / "run") in told and "name another" in told and told.count("\n") == 1


def test_a_folder_with_a_run_is_refused(sequences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "last.pt").write_bytes(b"x")
    assert main(["lrnet-compact", "--data", str(sequences), "--out", str(tmp_path), "--workers", "2"]) == 2
    assert "already holds a run" in capsys.readouterr().err


def test_any_fsspec_file_system_holds_a_run(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "last.pt").write_bytes(b"weights")
    (tmp_path / "tensorboard/events").write_bytes(b"curves")
    storage = Storage(f"memory://{tmp_path.name}/runs", "mine")
    assert not storage.local and not storage.holds("last.pt")
    storage.put(tmp_path)
    assert storage.holds("last.pt") and storage.url == f"memory:///{tmp_path.name}/runs/mine"
    with storage.arrow().open_input_file(f"{storage.root}/tensorboard/events") as file:
        assert file.read() == b"curves", "as Ray reads it"


def put_with_a_full_disk(folder: Path, root: Path, told: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        Storage(str(root), "mine").put(folder)
    except RecipeError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        told.write_text(str(error))


def test_a_full_disk_keeps_the_files_that_a_run_already_has(tmp_path: Path) -> None:
    """The limit on file sizes stands in for the disk, as in test_checkpoint.py."""
    pytest.importorskip("pyarrow")
    new, root, told = tmp_path / "new", tmp_path / "runs", tmp_path / "told.txt"
    for folder, size in ((new, 100_000), (root / "mine", 500)):
        folder.mkdir(parents=True)
        (folder / "last.pt").write_bytes(b"w" * size)
    process = mp.get_context("fork").Process(target=put_with_a_full_disk, args=(new, root, told))
    process.start()
    process.join(60)
    assert "mine cannot be written (File too large)" in told.read_text() and "--resume" in told.read_text()
    assert [path.name for path in (root / "mine").iterdir()] == ["last.pt"]
    assert (root / "mine/last.pt").stat().st_size == 500


def test_what_failed_first_is_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise RecipeError("the disk is full")

    with pytest.raises(RecipeError, match="the loss is nan"), _whatever_happened(fails):
        raise RecipeError("the loss is nan")
    assert capsys.readouterr().err == "after that, too: the disk is full\n"
    with pytest.raises(RecipeError, match="the disk is full"), _whatever_happened(fails):
        pass
