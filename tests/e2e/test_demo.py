"""`unmask demo` as a person runs it: up, visited in a browser, looking as documented, and gone without a trace."""

from __future__ import annotations

import io
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from local_api import untrained
from look import ANOTHER, PICTURES, SAME, likeness
from PIL import Image

from benchmarks.browsing import Demo as Addresses
from benchmarks.browsing import addresses, free_ports, settle
from docs.pictured import analysed
from docs.screenshots import OUT, take
from docs.shots import shots
from ui.client import Client
from ui.words import VERDICTS

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
START_S = 280


class Demo:
    """A running `unmask demo` and what it prints; with other weights than the shipped ones where a folder is given."""

    def __init__(self, folder: Path, weights: Path | None = None) -> None:
        self.ports = dict(zip(("api", "dashboard", "gradio"), free_ports(3), strict=True))
        environment = {
            **os.environ,
            **({"UNMASK_WEIGHTS": str(weights)} if weights else {}),
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


@contextmanager
def running(demo: Demo) -> Iterator[Demo]:
    family: list[psutil.Process] = []
    try:
        demo.await_line("Ctrl-C ends everything", START_S)
        family = demo.family()
        yield demo
    finally:
        if demo.process.poll() is None:
            family = family or demo.family()
        for process in family:  # only what this test started, and only where the demo left it behind
            if process.is_running():
                process.kill()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """With the shipped weights. The last test that has it ends it."""
    with running(Demo(tmp_path_factory.mktemp("demo"))) as found:
        yield found


def test_a_visitor_sees_who_says_it_and_where_each_looks(page: Any, demo: Demo) -> None:
    page.goto(demo.url("dashboard"))
    page.get_by_role("button", name="Astronaut fake").click()
    card = page.locator("[data-verdict]")
    card.wait_for()
    with Client(demo.url("api", "")) as client:
        result = client.result(client.analyses("astronaut-fake.jpg")[0]["id"])
    assert card.get_attribute("data-verdict") == result.verdict
    assert VERDICTS[result.verdict].title in card.inner_text()
    detectors = result.faces[0].detectors
    assert len(detectors) > 2
    for name in detectors:
        page.locator(".um-axis-name", has_text=re.compile(f"^{name}$")).first.wait_for()
    mapped = {name for name, score in detectors.items() if score.heatmaps}
    looks = page.get_by_role("radiogroup", name="Where it looks")
    assert set(looks.inner_text().split()) == mapped
    for name in sorted(mapped):
        looks.get_by_text(name, exact=True).click()
        picture = page.locator(f".um-crops img[alt*='heatmap of {name},']").first
        picture.wait_for()
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    assert page.locator(".js-plotly-plot").count() == 0, "plotly holds the page up: it comes when the map is wanted"
    page.get_by_role("tab", name="Among reference faces").click()
    page.get_by_role("table").filter(has_text="Distance").wait_for()
    page.locator(".js-plotly-plot", has_text="this face").wait_for()


def test_a_visitor_of_the_gradio_demo_takes_a_sample(page: Any, demo: Demo) -> None:
    page.goto(demo.url("gradio"))
    page.locator("button:visible", has_text="Astronaut fake").click()
    page.locator("button:visible:enabled", has_text="Analyse").click()
    page.locator("[data-verdict]:visible").wait_for()
    assert "astronaut-fake.jpg" in page.locator("[data-verdict]:visible").inner_text()
    page.locator(".um-crops img:visible").first.wait_for()
    page.locator(".js-plotly-plot:visible", has_text="this face").wait_for()
    page.get_by_text("Nearest of the references").wait_for()


def test_pages_look_as_documented(browser: Any, demo: Demo) -> None:
    """Each is more like its own picture than like any other page's, and clearly so; an empty page is like none."""
    where = Addresses(*(demo.url(name, "") for name in ("api", "dashboard", "gradio")))
    page = browser.new_page()
    pages = addresses(page, where.dashboard)
    page.close()
    wanted = {shot.name: shot for shot in shots(analysed(where.api), Path("/"), settle, None)}
    documented = {name: Image.open(OUT / f"{name}.png") for name in ("analyse", "history", "models", "result-image")}
    empty = Image.new("RGB", (1280, 860), "white")
    for name, picture in documented.items():
        url = wanted[name].where(where, pages)
        assert url is not None
        content = take(browser, url, wanted[name], "wide", "light")
        PICTURES.mkdir(exist_ok=True)
        (PICTURES / f"{name}.png").write_bytes(content)
        seen = Image.open(io.BytesIO(content))
        assert likeness(seen, picture) > SAME, name
        others = {other: likeness(seen, documented[other]) for other in documented if other != name}
        assert max(others.values()) < ANOTHER, (name, others)
        assert likeness(empty, picture) == 0


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


def test_nothing_stays_when_the_launcher_is_killed_outright(tmp_path: Path) -> None:
    untrained(tmp_path / "weights")
    with running(Demo(tmp_path, tmp_path / "weights")) as demo:
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
