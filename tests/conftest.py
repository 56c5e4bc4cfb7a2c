"""Fixtures that all tests share."""

import gc
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Timings on a loaded machine say nothing about correctness; the same examples everywhere make failures repeatable.
settings.register_profile("unmask", deadline=None, derandomize=True)
settings.load_profile("unmask")

UNTIL = float(os.environ.get("UNMASK_SLOW_TESTS_UNTIL", "inf"))
"""Seconds since 1970. A run that must end by then, on a host of unknown speed, skips the slow tests that are left."""


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # commands that ran in here froze what they loaded; libraries would take it for leaks


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("slow") and time.time() > UNTIL:
        pytest.skip("the time for slow tests is over (UNMASK_SLOW_TESTS_UNTIL): this host is too slow for all of them")


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """Streamlit's AppTest leaves its script as `__main__`, which a later test's spawned process would run."""
    before = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = before


SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published inputs, outputs and labelled data beside the checkout."""
    if not (SHARED / "DESIGN.md").is_file():
        pytest.skip(
            "needs ../shared (published weights, golden outputs and labelled data), which is not beside this checkout"
        )
    return SHARED
