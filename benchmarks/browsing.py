"""The real demo and a headless Chromium, for what is measured and pictured in a browser."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLACES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
START_S = 280
UP = "Ctrl-C ends everything"


@dataclass(frozen=True)
class Demo:
    """Where the running parts are; `data`: the folder of its user's data (XDG_DATA_HOME), where that is ours."""

    api: str
    dashboard: str
    gradio: str
    data: Path | None = None


def find_chromium() -> str | None:
    """The system's; Playwright's own download does not work everywhere."""
    return next(filter(None, map(shutil.which, PLACES)), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser. Raises RuntimeError where the system has none, ImportError without Playwright."""
    from playwright.sync_api import sync_playwright

    found = find_chromium()
    if found is None:
        raise RuntimeError("no Chromium here: `make browser` installs one where it may")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def running_demo() -> Iterator[Demo]:
    """`unmask demo` on free ports with a history of its own. Raises RuntimeError where it does not come up."""
    names = ("api", "dashboard", "gradio")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    options = [part for name, port in ports.items() for part in (f"--{name}-port", str(port))]
    with tempfile.TemporaryDirectory(prefix="unmask-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "ui.cli", "demo", *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env={**os.environ, "XDG_DATA_HOME": folder}, start_new_session=True,
        )  # fmt: skip
        up, lines = threading.Event(), list[str]()

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                if UP in line:
                    up.set()

        threading.Thread(target=read, daemon=True).start()
        try:
            if not up.wait(START_S):
                raise RuntimeError(f"the demo did not come up: {''.join(lines[-20:])}")
            yield Demo(*(f"http://127.0.0.1:{ports[name]}" for name in names), data=Path(folder))
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def settle(page: Any) -> None:
    """Until Streamlit's script has run and its figures are drawn; of other pages until the network is quiet."""
    page.wait_for_load_state("load")
    if page.locator("[data-testid=stApp]").count():
        page.wait_for_function(
            "() => document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'"
            " && !document.querySelector('[data-testid=stSkeleton]')"
        )
    page.wait_for_timeout(900)


def open_tab(page: Any, name: str) -> None:
    """A tab of the Gradio demo; on a phone the last ones are behind a menu."""
    page.get_by_role("tab").first.wait_for()
    page.wait_for_timeout(300)  # until it has seen which of them have room
    tab = page.get_by_role("tab", name=name)
    if not tab.first.is_visible():
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown button", has_text=name).click()
        return
    tab.first.click()


def addresses(page: Any, dashboard: str) -> dict[str, str]:
    """The dashboard's pages by their titles in the navigation; `page` is wide, where all are shown."""
    page.goto(dashboard)
    settle(page)
    links = page.locator(
        "[data-testid=stTopNavLink], [data-testid=stSidebarNavLink], [data-testid=stTopNavDropdownLink]"
    )
    return {link.inner_text().split("\n")[-1].strip(): link.evaluate("a => a.href") for link in links.all()}


SAMPLES = Path(__file__).resolve().parents[1] / "ui" / "samples"
