"""A Ray head of our own with token authentication, as an operator starts one, for the tests of a cluster."""

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.browsing import free_ports

RAY = Path(sys.executable).parent / "ray"


@dataclass(frozen=True)
class Head:
    """`client`: the environment of a client; addresses of the dashboard, the cluster, the metrics."""

    client: dict[str, str]
    url: str
    address: str
    metrics: str

    @property
    def authorized(self) -> dict[str, str]:
        """Headers of a request to the dashboard."""
        return {"Authorization": f"Bearer {self.client['RAY_AUTH_TOKEN']}"}


def answers(url: str, token: str) -> bool:
    request = urllib.request.Request(f"{url}/api/version", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def running_head(log: Path, cpus: int = 3, *options: str) -> Iterator[Head]:
    """Its processes end with the context; `options` of `ray start`."""
    # Not imported here: Ray reads its token from the environment as it is then, once a process.
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray (extra serve)")
    # Sockets of Ray have paths of at most 107 characters: not below pytest's folder.
    session = Path("/tmp") / f"unmask-{secrets.token_hex(4)}"
    gcs, dashboard, client, agent, agent_grpc, runtime_env, metrics, manager, object_manager = free_ports(9)
    token = secrets.token_hex(32)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "RAY_prestart_worker_first_driver": "0",  # one for each CPU that is claimed, wanted or not
        "PATH": f"{RAY.parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [
        str(RAY), "start", "--head", "--block", f"--num-cpus={cpus}", "--disable-usage-stats", f"--temp-dir={session}",
        "--node-ip-address=127.0.0.1", f"--port={gcs}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1",
        f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}",
        f"--dashboard-agent-grpc-port={agent_grpc}", f"--runtime-env-agent-port={runtime_env}",
        f"--metrics-export-port={metrics}", f"--node-manager-port={manager}", f"--object-manager-port={object_manager}",
        "--object-store-memory=200000000", *options,
    ]  # fmt: skip
    with log.open("wb") as file:
        running = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{dashboard}"
        until = time.monotonic() + 120
        while not answers(url, token):
            assert running.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(0.2)
        yield Head(environment | {"RAY_ADDRESS": url}, url, f"127.0.0.1:{gcs}", f"http://127.0.0.1:{metrics}/metrics")
    finally:
        end_group(running)
        shutil.rmtree(session, ignore_errors=True)


@contextlib.contextmanager
def running_node(head: Head, log: Path, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Another node of its cluster on this machine, which has joined; `options` of `ray start`."""
    command = [str(RAY), "start", f"--address={head.address}", "--block", "--node-ip-address=127.0.0.1", *options]
    command += ["--disable-usage-stats", "--object-store-memory=100000000"]
    environment = {key: value for key, value in head.client.items() if key != "RAY_ADDRESS"}
    with log.open("wb") as file:
        running = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while "will now block" not in log.read_text():
            assert running.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(0.2)
        yield running
    finally:
        end_group(running)


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
