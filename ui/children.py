"""Processes that a launcher starts and ends: each in a group of its own, all gone when the launcher is."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType

GRACE_S = 12.0
"""Ray needs some seconds to end its own processes."""
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Stopped(BaseException):
    """SIGINT, SIGTERM or SIGHUP reached the launcher."""


def stop_on_signals() -> None:
    """Turn the signals that end a program into `Stopped`, so that `with Children()` ends what it started."""

    def stop(number: int, _: FrameType | None) -> None:
        # A second Ctrl-C while things end must not leave half of them running.
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(signal.Signals(number).name)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def _die_with_parent(parent: int) -> None:
    """In the child: be told to end when the launcher dies without a word (kill -9)."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)


class Children:
    """Started children by name; leaving the context ends them and their groups, and nothing else."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[subprocess.Popen[bytes], signal.Signals]] = {}

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        quiet: bool = False,
        stop: signal.Signals = signal.SIGTERM,
    ) -> None:
        """Start a child in a session of its own: the terminal's Ctrl-C reaches the launcher, which tells the child.

        `quiet` keeps back what it prints, not its errors; `stop` is the signal on which it ends in good order.
        """
        parent = os.getpid()
        child = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if quiet else None,
            start_new_session=True,
            preexec_fn=lambda: _die_with_parent(parent),
        )
        self._running[name] = (child, stop)

    def ended(self) -> tuple[str, int] | None:
        """The first child that has ended by itself, and its exit status."""
        for name, (child, _) in self._running.items():
            if (status := child.poll()) is not None:
                return name, status
        return None

    def wait(self) -> tuple[str, int]:
        """Until a child ends by itself."""
        while (found := self.ended()) is None:
            time.sleep(0.5)
        return found

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        children = [child for child, _ in self._running.values()]
        for child, stop in self._running.values():
            if child.poll() is None:
                child.send_signal(stop)
        until = time.monotonic() + GRACE_S
        for child in children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(until - time.monotonic(), 0.1))
        for child in children:
            # Whatever a child left behind in its group goes too, also where the child itself has ended.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
