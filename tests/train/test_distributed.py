"""Ray Train around the loop: the same curve whatever is killed; what is asked wrongly is said."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from landmark_sequences import write_sequences

from train.__main__ import main
from train.distributed import Storage, Workers
from train.loop import EpochMetrics, Progress
from train.monitor import Monitor
from train.recipe import RecipeError, create_detector, data_module, data_settings, load_recipe
from train.sweep import settings as sweep_settings

OVERRIDES = ["epochs=10", "batch=16", "data.settings.windows=48"]


def curve(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


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

    def __init__(self, sequences: Path, *more: str) -> None:
        command = [sys.executable, "-m", "train", "lrnet-compact", "--data", str(sequences), "--workers", "2", *more]
        # A stranger's cluster in the environment is not joined.
        environment = {**os.environ, "RAY_ADDRESS": "192.0.2.1:6379", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*command, *OVERRIDES], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        self.lines: list[str] = []
        self._overdue = threading.Timer(280, self.process.kill)
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


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_gpus_that_are_not_there_are_said(sequences: Path, tmp_path: Path) -> None:
    run = Run(sequences, "--out", str(tmp_path / "run"), "--gpu")
    assert run.end() == 2
    assert "2 workers want a GPU each and this machine has 0" in run.told and "Traceback" not in run.told


@pytest.mark.slow
@pytest.mark.e2e
def test_a_sweep_trains_every_setting(sequences: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "train", "sweep", "lrnet-compact", "--data", str(sequences), "epochs=1"]
    ended = subprocess.run(
        [*command, "data.settings.windows=8", "--param", "optimiser.lr=1e-4,3e-3", "--out", str(tmp_path / "sweep")],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-4000:]
    lines = json.loads((tmp_path / "sweep/sweep.json").read_text())
    assert sorted(line["overrides"] for line in lines) == [["optimiser.lr=1e-4"], ["optimiser.lr=3e-3"]]
    assert lines[0]["auc"] >= lines[1]["auc"] and not any(line["failed"] for line in lines)
    assert all((Path(line["folder"]) / "best.pt").exists() for line in lines)


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


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves in TensorBoard's files: records of length, checksum, content, checksum."""
    from tensorboardX.proto.event_pb2 import Event  # type: ignore[import-untyped]

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (size,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + size])
            at += size + 16
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_the_curves_are_in_tensorboards_files_once_per_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboardX")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first = EpochMetrics(0, 5, 0.7, 0.6, 0.75, 1e-3, 3661.0, 10)
    with Monitor(load_recipe("lrnet-compact"), tmp_path) as monitor:
        monitor.progress(Progress(1, 2, 5, 5, 0.7, 100.0, 61.0))
        monitor.epoch(first)
        monitor.epoch(first)
    found = events(tmp_path / "tensorboard")
    assert found["validation/auc"] == [(5, 0.75)] and found["train/loss"] == [(5, pytest.approx(0.7))]
    assert found["progress/rate"] == [(5, 100.0)]
    told = capsys.readouterr().err
    assert "epoch 1/2 step 5/5 loss 0.7000 100 samples/s, 1:01 left" in told
    assert told.count("AUC 0.7500 (1:01:01)") == 1


def test_mlflow_that_is_set_and_not_installed_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tmp_path.as_uri())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="mlflow is not installed"):
        Monitor(load_recipe("lrnet-compact"), tmp_path)


def test_mlflow_gets_what_the_recipe_says_and_the_curves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # mlflow-skinny has no other store of its own
    with Monitor(load_recipe("lrnet-compact"), None) as monitor:
        monitor.epoch(EpochMetrics(0, 5, 0.7, 0.6, 0.75, 1e-3, 2.0, 10))
    (run,) = mlflow.search_runs(experiment_names=["unmask"], output_format="list")
    assert run.info.status == "FINISHED" and run.data.metrics["validation/auc"] == 0.75
    assert run.data.params["optimiser.lr"] == "0.003"


def test_a_sweep_takes_all_combinations_or_draws_from_them() -> None:
    params = ["optimiser.lr=1e-4,3e-4", "batch=8,16"]
    assert sweep_settings(params, None, 1) == [
        ["optimiser.lr=1e-4", "batch=8"],
        ["optimiser.lr=1e-4", "batch=16"],
        ["optimiser.lr=3e-4", "batch=8"],
        ["optimiser.lr=3e-4", "batch=16"],
    ]
    three = sweep_settings(params, 3, 1)
    assert len({tuple(one) for one in three}) == 3 and three == sweep_settings(params, 3, 1)
    drawn = [float(one[0].partition("=")[2]) for one in sweep_settings(["optimiser.lr=1e-5..1e-2"], 20, 1)]
    assert len(set(drawn)) == 20 and all(1e-5 <= value <= 1e-2 for value in drawn)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ([], "needs one --param"),
        (["batch=8", "batch=16"], "needs one --param"),
        (["batch"], "neither key=value"),
        (["optimiser.lr=1e-2..1e-5"], "neither key=value"),
        (["optimiser.lr=1e-5..1e-2"], "needs --samples"),
    ],
)
def test_a_mistake_in_a_sweep_is_named(params: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        sweep_settings(params, None, 1)
