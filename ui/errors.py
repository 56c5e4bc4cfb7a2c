"""What the command line says instead of a stack trace."""

from __future__ import annotations


class UsageError(Exception):
    """The command cannot run as given: exit 2. `reason` names the thing, `hint` the way out."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(f"{reason}; {hint}" if hint else reason)
        self.reason = reason
        self.hint = hint


def describe(error: BaseException) -> str:
    """An unforeseen error in one line: its type, and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
