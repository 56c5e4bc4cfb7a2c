"""Fixtures that all tests share."""

from pathlib import Path

import pytest
from hypothesis import settings

# Timings on a loaded machine say nothing about correctness; the same examples everywhere make failures repeatable.
settings.register_profile("unmask", deadline=None, derandomize=True)
settings.load_profile("unmask")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published inputs, outputs and labelled data beside the checkout."""
    if not (SHARED / "DESIGN.md").is_file():
        pytest.skip(
            "needs ../shared (published weights, golden outputs and labelled data), which is not beside this checkout"
        )
    return SHARED
