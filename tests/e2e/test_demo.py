"""`unmask demo` as a person runs it: up, answering, the sample analysed, and gone without a trace."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from browser import free_ports
from local_api import untrained

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
START_S = 280


class Demo:
    """A running `unmask demo` and what it prints."""

    def __init__(self, folder: Path) -> None:
        self.ports = dict(zip(("api", "dashboard", "gradio"), free_ports(3), strict=True))
        untrained(folder / "weights")
        environment = {
            **os.environ,
            "UNMASK_WEIGHTS": str(folder / "weights"),
            "XDG_DATA_HOME": str(folder / "data"),
            "RAY_ADDRESS": "127.0.0.1:1",  # somebody's cluster, which is not to be used unasked
        }
        options = [part for name, port in self.ports.items() for part in (f"--{name}-port", str(port))]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ui.cli", "demo", *options],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._more: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            self._more.put(line)

    def await_line(self, text: str, seconds: float) -> None:
        """Until a line with `text` is printed."""
        until = time.monotonic() + seconds
        while not any(text in line for line in self.lines):
            assert self.process.poll() is None, self.output
            assert time.monotonic() < until, self.output
            try:
                self._more.get(timeout=1)
            except queue.Empty:
                continue

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def url(self, name: str, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.ports[name]}{path}"

    def family(self) -> list[psutil.Process]:
        """The launcher and everything that descends from it."""
        launcher = psutil.Process(self.process.pid)
        return [launcher, *launcher.children(recursive=True)]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    running = Demo(tmp_path)
    family: list[psutil.Process] = []
    try:
        running.await_line("Ctrl-C ends everything", START_S)
        family = running.family()
        yield running
    finally:
        if running.process.poll() is None:
            family = family or running.family()
        for process in family:  # only what this test started, and only where the demo left it behind
            if process.is_running():
                process.kill()


def test_the_demo_answers_on_its_ports_and_ctrl_c_ends_all_that_it_started(demo: Demo) -> None:
    for path in (demo.url("api", "/readyz"), demo.url("api", "/docs"), demo.url("dashboard"), demo.url("gradio")):
        assert httpx.get(path, timeout=20, trust_env=False).status_code == 200
    assert "Sample astronaut-real.jpg, labelled real:" in demo.output
    assert "Sample astronaut-fake.jpg, labelled fake:" in demo.output
    assert all(demo.url(name, "") in demo.output for name in demo.ports)
    # Bound to this machine alone.
    for one in demo.family():
        for connection in one.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port in demo.ports.values():
                assert connection.laddr.ip == "127.0.0.1"
    family = demo.family()
    assert len(family) > 6
    begun = time.monotonic()
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(30) == 0, demo.output
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive, alive
    assert time.monotonic() - begun < 30
    assert "Traceback" not in demo.output and "SIGTERM received" not in demo.output, demo.output
    for port in demo.ports.values():
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))


def test_nothing_stays_when_the_launcher_is_killed_outright(demo: Demo) -> None:
    family = demo.family()
    demo.process.kill()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive, alive


def test_a_taken_port_is_said_with_the_flag_that_changes_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = [sys.executable, "-m", "ui.cli", "demo", "--gradio-port", str(port)]
        line += ["--api-port", str(free_ports(1)[0]), "--dashboard-port", str(free_ports(2)[1])]
        found = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 2
    assert f"port {port} is in use" in found.stderr and "--gradio-port" in found.stderr
