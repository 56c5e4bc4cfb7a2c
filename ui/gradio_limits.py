"""What visitors of the Gradio demo may ask for, and what is kept: all on one's own machine, little when hosted."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from getpass import getpass
from hmac import compare_digest
from pathlib import Path
from typing import Any

from ui.client import ApiError, Client
from ui.errors import UsageError

PASSWORD = "UNMASK_DEMO_PASSWORD"
MIN_PASSWORD = 8
CACHE_S = 3600
"""Gradio keeps uploads and downloads so long, in seconds, where nothing else is kept."""


@dataclass(frozen=True)
class Limits:
    """`max_seconds` of a video, `queue` visitors waiting (None: any number), `at_once` analyses, `keep` their history.

    The API's own limits hold besides: these can only be lower.
    """

    max_mb: int = 2048
    max_seconds: float | None = None
    queue: int | None = None
    at_once: int = 4
    keep: bool = True

    def settings(self) -> dict[str, Any]:
        """As a request's settings: the service refuses what is longer, by name and reason. Sizes Gradio refuses."""
        return {"limits": {"max_duration_s": self.max_seconds}} if self.max_seconds else {}


OWN = Limits()
HOSTED = Limits(max_mb=50, max_seconds=60, queue=20, at_once=2, keep=False)


class Desk:
    """Takes visitors' files to the API under the demo's limits."""

    def __init__(self, client: Client, limits: Limits) -> None:
        self.client = client
        self.limits = limits

    @contextmanager
    def analysis(self, path: Path, name: str) -> Iterator[str]:
        """The id of a file's analysis; on leaving it is deleted where nothing is kept, also while it runs.

        Raises ApiError.
        """
        # What is deleted afterwards must not be another visitor's answer.
        found = self.client.submit(path, name, self.limits.settings(), again=not self.limits.keep)
        try:
            yield found
        finally:
            if not self.limits.keep:
                with contextlib.suppress(ApiError):
                    self.client.delete(found)


def ask_password() -> str:
    """For a public demo: from the environment, else from the terminal. Raises UsageError where there is none."""
    given = os.environ.get(PASSWORD, "")
    if not given and sys.stdin.isatty():
        given = getpass("Password that visitors of the public demo must know: ")
    if len(given) < MIN_PASSWORD:
        told = f"a public demo needs a password of {MIN_PASSWORD} characters or more"
        raise UsageError(f"--share: {told}", f"type it when asked, or set {PASSWORD}")
    return given


def knows(password: str, given: str) -> bool:
    """Whether a visitor may come in."""
    return compare_digest(password.encode(), given.encode())
