"""The same set from Ray Data as from one process, also after its driver was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from portraits import make_videos

from train.prepare import PrepareSettings
from train.prepare.run import index, prepare

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
SETTINGS = PrepareSettings(count=3, size=96, detector="hog")


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "shards").glob("[!.]*"))}


def command(root: Path, out: Path, *more: str) -> list[str]:
    start = [sys.executable, "-m", "ui.cli", "prepare", "plain", str(root), "--out", str(out)]
    return [*start, "--count", "3", "--size", "96", "--detector", "hog", "--workers", "1", *more]


def test_ray_makes_the_same_set_and_continues_a_killed_one(tmp_path: Path) -> None:
    root = make_videos(tmp_path / "videos")
    found, _ = index("auto", str(root), SETTINGS)
    prepare(found, found.items, str(tmp_path / "local"), SETTINGS, local=True, shard_videos=1)
    out = tmp_path / "ray"
    # A stranger's cluster in the environment is not joined.
    environment = {**os.environ, "RAY_ADDRESS": "192.0.2.1:6379", "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command(root, out), stderr=subprocess.PIPE, text=True, env=environment)
    until = time.monotonic() + 180
    while not list(out.glob("shards/[!.]*.jsonl")) and running.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert len(list(out.glob("shards/[!.]*.jsonl"))) > 0, "killed after the first shard"
    again = subprocess.run(
        command(root, out), capture_output=True, text=True, env=environment, timeout=240, check=False
    )
    assert again.returncode == 3, again.stderr
    assert "4 done, 1 failed, 1 no_face" in again.stderr and "Traceback" not in again.stderr
    assert contents(out) == contents(tmp_path / "local")


def test_a_killed_worker_costs_nothing_but_time(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    root = make_videos(tmp_path / "videos")
    found, _ = index("auto", str(root), SETTINGS)
    prepare(found, found.items, str(tmp_path / "local"), SETTINGS, local=True, shard_videos=1)
    out = tmp_path / "ray"
    running = subprocess.Popen(command(root, out), stderr=subprocess.PIPE, text=True)
    killed = []
    until = time.monotonic() + 180
    while not killed and running.poll() is None and time.monotonic() < until:
        if list(out.glob("shards/[!.]*.jsonl")):
            below = psutil.Process(running.pid).children(recursive=True)
            killed = [one for one in below if "MapWorker" in " ".join(one.cmdline())]
            for one in killed:
                one.kill()
        time.sleep(0.02)
    _, told = running.communicate(timeout=300)
    assert killed, "a worker was there to be killed"
    assert running.returncode == 3 and "4 done, 1 failed, 1 no_face" in told, told
    assert contents(out) == contents(tmp_path / "local")


def test_a_cluster_that_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "videos/real").mkdir(parents=True)
    (tmp_path / "videos/real/a.mp4").write_bytes(b"x")
    ended = subprocess.run(
        command(tmp_path / "videos", tmp_path / "set", "--address", "127.0.0.1:1"),
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ended.returncode == 2 and "no Ray cluster answers at 127.0.0.1:1" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_process_that_has_a_ray_keeps_it(tmp_path: Path) -> None:
    script = (
        "import sys, ray; ray.init(address='local', num_cpus=1, include_dashboard=False)\n"
        "from train.prepare.cluster import on_ray\nfrom train.prepare import PrepareSettings, PrepareError\n"
        "try: list(on_ray('/x', '/y', [[]], PrepareSettings(), 1, None))\n"
        "except PrepareError as error: print(error, ray.is_initialized())"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240, check=False)
    assert "is connected to a Ray instance already" in ended.stdout and ended.stdout.strip().endswith("True")
