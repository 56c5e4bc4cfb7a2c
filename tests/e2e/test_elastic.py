"""Training that takes the workers that there are: one, two when a node comes, one again when it is lost."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from landmark_sequences import write_sequences
from ray_head import RAY, end_group, running_head

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 400
"""More than there is time for."""


def second_node(address: str, environment: dict[str, str], log: Path) -> "subprocess.Popen[bytes]":
    command = [str(RAY), "start", f"--address={address}", "--block", "--num-cpus=1", "--node-ip-address=127.0.0.1"]
    command += ["--disable-usage-stats", "--object-store-memory=100000000"]
    with log.open("wb") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)


def wait_for(lines: "Lines", ranks: int, seconds: float = 300) -> None:
    """Until three epochs in a row are theirs: Ray takes a checkpoint for good some time after it lies there."""
    until = time.monotonic() + seconds
    while [line["ranks"] for line in lines()[-3:]] != [ranks] * 3:
        assert time.monotonic() < until, f"no epoch by {ranks} workers: {lines()[-3:]}"
        time.sleep(0.5)


class Lines:
    """What the newest checkpoint's metrics.jsonl tells."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> list[dict[str, int]]:
        found = sorted(self.folder.glob("checkpoint_*/metrics.jsonl"), key=lambda path: path.parent.name)
        return [json.loads(line) for line in found[-1].read_text().splitlines()] if found else []


def test_workers_that_come_and_go_are_used(tmp_path: Path) -> None:
    data, out = write_sequences(tmp_path / "sequences"), tmp_path / "run"
    lines, said = Lines(out), tmp_path / "said.log"
    settings = [f"epochs={EPOCHS}", "batch=8", "data.settings.windows=150", "workers=0"]
    with running_head(tmp_path / "head.log", cpus=1) as head, said.open("wb") as file:
        environment = {key: value for key, value in head.client.items() if key != "RAY_ADDRESS"}
        asked = f"run('lrnet-compact', data=Path({str(data)!r}), out=Path({str(out)!r}), overrides={settings},"
        asked += f" workers=Workers(1, 2, address={head.address!r}, resize_s=5.0))"
        script = "from pathlib import Path\nfrom train.__main__ import run\nfrom train.distributed import Workers\n"
        command = [sys.executable, "-c", script + asked]
        training = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
        try:
            wait_for(lines, 1)
            node = second_node(head.address, environment, tmp_path / "node.log")
            try:
                wait_for(lines, 2)
            finally:
                end_group(node)
            wait_for(lines, 1)
            training.send_signal(signal.SIGINT)
            training.wait(180)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{said.read_text()[-3000:]}") from error
        finally:
            training.kill()
    told = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in told] == list(range(len(told))), "no epoch is lost, none is there twice"
    ranks = [line["ranks"] for line in told]
    assert (ranks[0], max(ranks), ranks[-1]) == (1, 2, 1)
