"""Strangers get little of the Gradio demo, and leave nothing behind; one's own machine has no such limits."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ui.errors import UsageError
from ui.gradio_demo import _limits
from ui.gradio_limits import HOSTED, OWN, PASSWORD, Desk, Limits, ask_password, knows


class Asked:
    """A client that writes down what it is asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def submit(self, path: Path, name: str, settings: dict[str, Any], again: bool) -> str:
        self.calls.append(("submit", name, settings, again))
        return "an-id"

    def delete(self, analysis: str) -> None:
        self.calls.append(("delete", analysis))


def test_a_strangers_analysis_is_bounded_its_own_and_deleted_even_where_it_fails() -> None:
    asked = Asked()
    with pytest.raises(ZeroDivisionError), Desk(asked, HOSTED).analysis(Path("a.mp4"), "a.mp4"):  # type: ignore[arg-type]
        1 / 0  # noqa: B018
    assert asked.calls == [("submit", "a.mp4", {"limits": {"max_duration_s": 60}}, True), ("delete", "an-id")]


def test_ones_own_is_kept_and_found_again() -> None:
    asked = Asked()
    with Desk(asked, OWN).analysis(Path("a.mp4"), "a.mp4") as analysis:  # type: ignore[arg-type]
        assert analysis == "an-id"
    assert asked.calls == [("submit", "a.mp4", {}, False)]


def test_a_public_address_has_the_hosted_limits_and_flags_change_single_ones() -> None:
    nothing = dict.fromkeys(("max_mb", "max_seconds", "queue", "at_once", "no_history", "hosted", "share"))

    def asked(**flags: Any) -> Limits:
        return _limits(Namespace(**nothing | flags))

    assert asked() == OWN
    assert asked(share=True) == asked(hosted=True) == HOSTED
    assert asked(share=True, max_mb=5, queue=3) == replace(HOSTED, max_mb=5, queue=3)
    assert asked(no_history=True) == replace(OWN, keep=False)
    assert HOSTED.max_mb == 50 and HOSTED.max_seconds == 60 and HOSTED.queue == 20 and not HOSTED.keep


def test_a_public_demo_needs_a_password_of_some_length(monkeypatch: pytest.MonkeyPatch) -> None:
    for short in ("", "1234567"):
        monkeypatch.setenv(PASSWORD, short)
        with pytest.raises(UsageError, match="password of 8 characters") as told:
            ask_password()
        assert PASSWORD in told.value.hint
    monkeypatch.setenv(PASSWORD, "öffne dich")
    assert ask_password() == "öffne dich"
    assert knows("öffne dich", "öffne dich") and not knows("öffne dich", "offne dich")
