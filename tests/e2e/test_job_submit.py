"""`ray job submit --working-dir . -- python -m train RECIPE`, against a head of our own with token authentication."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from landmark_sequences import write_sequences

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
ROOT = Path(__file__).resolve().parents[2]
RAY = Path(sys.executable).parent / "ray"


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def answers(url: str, token: str) -> bool:
    request = urllib.request.Request(f"{url}/api/version", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def head(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a client of a running head; the head's processes end with the test."""
    pytest.importorskip("ray")
    # Sockets of Ray have paths of at most 107 characters: not below pytest's folder.
    session = Path("/tmp") / f"unmask-{secrets.token_hex(4)}"
    gcs, dashboard, client, agent, agent_grpc, runtime_env, metrics, manager, object_manager = free_ports(9)
    token = secrets.token_hex(32)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{RAY.parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [
        str(RAY), "start", "--head", "--block", "--num-cpus=3", "--disable-usage-stats", f"--temp-dir={session}",
        "--node-ip-address=127.0.0.1", f"--port={gcs}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1",
        f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}",
        f"--dashboard-agent-grpc-port={agent_grpc}", f"--runtime-env-agent-port={runtime_env}",
        f"--metrics-export-port={metrics}", f"--node-manager-port={manager}", f"--object-manager-port={object_manager}",
        "--object-store-memory=200000000",
    ]  # fmt: skip
    log = tmp_path / "head.log"
    with log.open("wb") as file:
        running = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{dashboard}"
        until = time.monotonic() + 120
        while not answers(url, token):
            assert running.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(0.2)
        yield environment | {"RAY_ADDRESS": url}
    finally:
        end_group(running)
        shutil.rmtree(session, ignore_errors=True)


def end_group(running: "subprocess.Popen[bytes]") -> None:
    """Kills the head and all that it started: its process group, and the workers that have one of their own."""
    psutil = pytest.importorskip("psutil")
    below = psutil.Process(running.pid).children(recursive=True) if running.poll() is None else []
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    for one in below:
        with contextlib.suppress(psutil.NoSuchProcess):  # psutil tells a process from a later one with its number
            one.kill()
    running.wait(30)
    psutil.wait_procs(below, timeout=30)


@pytest.fixture
def clean_checkout(tmp_path: Path) -> Path:
    """What git holds, as a clone would."""
    files = subprocess.run(
        ["git", "ls-files", "-z", "train", "detectors", "preprocessing"], cwd=ROOT, capture_output=True
    )
    folder = tmp_path / "checkout"
    for name in filter(None, files.stdout.decode().split("\0")):
        if (ROOT / name).exists() and not name.endswith(".safetensors"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    if not folder.exists():
        pytest.skip("not a git checkout: there is nothing to submit")
    return folder


def test_a_submitted_job_trains_and_leaves_its_run(head: dict[str, str], clean_checkout: Path, tmp_path: Path) -> None:
    data, runs = write_sequences(tmp_path / "sequences"), tmp_path / "runs"
    train = [
        "python", "-m", "train", "lrnet-compact", "--data", str(data), "--workers", "2", "--storage-path", str(runs),
        "epochs=2", "batch=16", "data.settings.windows=8",
    ]  # fmt: skip
    submit = [str(RAY), "job", "submit", "--working-dir", ".", "--", *train]
    ended = subprocess.run(
        submit, cwd=clean_checkout, env=head, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280
    )
    # The client follows the job's log until its end.
    assert ended.returncode == 0, ended.stdout[-4000:]
    assert "2 CPU workers of Ray Train" in ended.stdout and "epoch 2: training loss" in ended.stdout
    assert f"in {runs}/lrnet-compact" in ended.stdout and "succeeded" in ended.stdout
    lines = [json.loads(line) for line in (runs / "lrnet-compact/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1] and all(0 <= line["auc"] <= 1 for line in lines)
    assert (runs / "lrnet-compact/best.pt").stat().st_size > 0
    assert list((runs / "lrnet-compact/tensorboard").glob("events.*"))


def test_without_the_token_nothing_is_accepted(head: dict[str, str], tmp_path: Path) -> None:
    stranger = {key: value for key, value in head.items() if key not in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE")}
    stranger |= {"HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"}
    refused = subprocess.run(
        [str(RAY), "job", "submit", "--", "true"], env=stranger, capture_output=True, text=True, timeout=200
    )
    assert refused.returncode != 0
    assert "token" in (refused.stdout + refused.stderr).lower()
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(f"{head['RAY_ADDRESS']}/api/jobs/", timeout=30)
    assert answer.value.code in (401, 403)
