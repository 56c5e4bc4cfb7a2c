"""A browser for the tests that need one, and pictures of what they saw."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from look import PICTURES

from benchmarks.browsing import chromium, find_chromium

WAIT_MS = 120_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; skips where the system has none."""
    pytest.importorskip("playwright.sync_api", reason="needs Playwright for Python (extra dev)")
    if find_chromium() is None:
        pytest.skip("needs a Chromium of the system (make browser installs one where it may)")
    with chromium() as found:
        yield found


@pytest.fixture
def open_page(browser: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Opens a page in a window of its own, of so many pixels, `within` another browser where one is given; all are
    pictured and closed when the test has ended."""
    windows: list[Any] = []

    def opened(width: int = 1280, height: int = 900, scheme: str = "light", within: Any = None) -> Any:
        size = {"width": width, "height": height}
        windows.append((within or browser).new_context(viewport=size, color_scheme=scheme))
        page = windows[-1].new_page()
        page.set_default_timeout(WAIT_MS)
        return page

    yield opened
    PICTURES.mkdir(exist_ok=True)
    name = re.sub(r"[^\w-]+", "-", f"{request.path.stem}-{request.node.name}").strip("-")
    try:
        for number, page in enumerate(page for window in windows for page in window.pages):
            page.screenshot(path=PICTURES / f"{name}{f'-{number}' if number else ''}.png", timeout=20_000)
    finally:
        for window in windows:
            window.close()


@pytest.fixture
def page(open_page: Callable[..., Any]) -> Any:
    """A page in a wide window."""
    return open_page()
