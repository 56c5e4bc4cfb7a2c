"""A run kept on a file system that is not this machine's: begun on Ray Train, stopped, gone on with, as if unbroken."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from bucket_store import FOLDER, installed
from landmark_sequences import write_sequences

from train.__main__ import main

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
TRAIN = ["lrnet-compact", "epochs=6", "batch=16", "data.settings.windows=48", "threads=1"]


def curve(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in ("epoch", "step", "train_loss", "val_loss", "auc", "lr")} for line in lines]


def trained(words: list[str], environment: Mapping[str, str], stop_at: str = "") -> tuple[int, str]:
    """Exit code and all that was said; Ctrl-C once a line begins with `stop_at`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "train", *TRAIN, *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environment,
    )  # fmt: skip
    overdue = threading.Timer(600, process.kill)
    overdue.start()
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append(line)
        if stop_at and line.startswith(stop_at):
            process.send_signal(signal.SIGINT)
    overdue.cancel()
    return process.wait(), "".join(told)[-4000:]


def test_a_stopped_run_goes_on_from_an_object_store(tmp_path: Path) -> None:
    data = ["--data", str(write_sequences(tmp_path / "sequences"))]
    assert main([*TRAIN, *data, "--local", "--out", str(tmp_path / "unbroken")]) == 0
    unbroken = curve(tmp_path / "unbroken")
    environment = installed(tmp_path / "driver") | {"RAY_ADDRESS": "192.0.2.1:6379", "OMP_NUM_THREADS": "1"}
    kept = Path(environment[FOLDER]) / "runs/mine"
    words = [*data, "--storage-path", "bucket://runs", "--out", "mine"]

    code, told = trained(words, environment, stop_at="epoch 2: training loss")
    assert code == 0 and "the finished epochs are in bucket://runs/mine" in told and "Traceback" not in told, told
    done = curve(kept)
    assert 0 < len(done) < 6 and done == unbroken[: len(done)]

    code, told = trained(words, environment)
    assert code == 2 and "bucket://runs/mine already holds a run" in told, told

    code, told = trained([*words, "--resume"], environment)
    assert code == 0 and "in bucket://runs/mine" in told and "Traceback" not in told, told
    assert curve(kept) == unbroken
    names = {path.name for path in kept.iterdir()}
    assert {"recipe.yaml", "data.json", "last.pt", "best.pt", "tensorboard"} <= names
    checkpoints = [name for name in names if name.startswith("checkpoint_2")]
    assert 1 <= len(checkpoints) <= 3, "the best, the last, and one that was on its way when the run was stopped"
    assert len(list((kept / "tensorboard").iterdir())) == 2, "of both runs"
