"""How a decoding process starts: on its own, or forked by a nursery, a process that has imported the decoders.

A picture is open in a fifth of the time when its process is forked and has nothing to import (benchmarks.media). The
nursery never sees a file: a child confines itself before it reads one, decodes one pass of it and ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Protocol

START_S = 60.0
"""Longest start of a process, which is no fault of the file: a tenth of a second where the machine is not busy."""
END_S = 10.0
"""Longest wait for the status of a process that was killed."""
ROOT = str(Path(__file__).resolve().parents[2])
_KEPT = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "SYSTEMROOT", "TMPDIR", "VIRTUAL_ENV")


class Worker(Protocol):
    """A decoding process that waits for its request at the other end of `socket`."""

    socket: socket.socket

    def status(self) -> int:
        """Its exit status, negative for the signal that ended it. Raises RuntimeError while it has not ended."""
        ...

    def close(self) -> None:
        """Ends it and gives everything back."""
        ...


def _run(module: str, lines: _Lines) -> subprocess.Popen[bytes]:
    """The module as a process with its ends of the lines, which are closed here, whatever happens."""
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    # Thread pools of numpy's BLAS and malloc's arenas would eat the address space that the limit counts.
    environment |= {
        "PYTHONPATH": ROOT, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2",
    }  # fmt: skip
    descriptors = (lines.theirs.fileno(), lines.life)
    try:
        return subprocess.Popen(
            # -P: a file av.py in the working directory must not be imported.
            [sys.executable, "-P", "-s", "-m", f"preprocessing.media.{module}", *map(str, descriptors)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            pass_fds=descriptors,
        )
    except BaseException:
        lines.close()
        raise
    finally:
        lines.handed_over()


class _Lines:
    """The ends of a started process: `ours` to talk, and a pipe whose closing ends it; `theirs` and `life` are its."""

    def __init__(self, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
        self.ours, self.theirs = socket.socketpair(type=kind)
        self.life, self._held = os.pipe()

    def handed_over(self) -> None:
        self.theirs.close()
        os.close(self.life)

    def close(self) -> None:
        self.ours.close()
        os.close(self._held)


class Started:
    """A process of its own, which imports what it needs for its file."""

    def __init__(self) -> None:
        self._lines = _Lines()
        self.socket = self._lines.ours
        self.process = _run("worker", self._lines)

    def status(self) -> int:
        try:
            return self.process.wait(timeout=END_S)
        except subprocess.TimeoutExpired:
            raise RuntimeError("the decoding process does not end") from None

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._lines.close()


class Forked:
    """A child of the nursery, which tells its exit status. It is killed by a descriptor of it, never by a number that
    might be another's by then."""

    def __init__(self, nursery: socket.socket) -> None:
        """Raises OSError where the nursery is gone or cannot fork."""
        self._lines = _Lines()
        self.socket = self._lines.ours
        self._told, theirs = socket.socketpair()
        self._status: int | None = None
        try:
            descriptors = [self._lines.theirs.fileno(), self._lines.life, theirs.fileno()]
            socket.send_fds(nursery, [b"f"], descriptors)
            theirs.close()
            self._told.settimeout(START_S)
            _, found, _, _ = socket.recv_fds(self._told, 1, 1)
            if not found:
                raise ConnectionResetError("the nursery did not fork")
            self._process = found[0]
        except BaseException:
            self._told.close()
            self._lines.close()
            raise
        finally:
            theirs.close()
            self._lines.handed_over()

    def status(self) -> int:
        if self._status is None:
            self._told.settimeout(END_S)
            try:
                told = self._told.recv(16)
            except TimeoutError:
                raise RuntimeError("the decoding process does not end") from None
            except ConnectionResetError:
                told = b""
            # A nursery that was killed tells nothing, and nothing is known of the children that it leaves.
            self._status = int(told) if told else -signal.SIGKILL
        return self._status

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        with contextlib.suppress(RuntimeError):
            self.status()  # told when nothing of it is left
        os.close(self._process)
        self._told.close()
        self._lines.close()


class Nursery:
    """The process that forks decoders."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        # Packets: two requests must not run together.
        self._lines = _Lines(socket.SOCK_SEQPACKET)
        self.process = _run("nursery", self._lines)

    def fork(self) -> Forked:
        """Raises OSError where it is gone or cannot fork."""
        return Forked(self._lines.ours)

    def close(self) -> None:
        if self.owner == os.getpid():  # a fork of this program has the parent's nursery, which is not its to end
            self.process.kill()
            self.process.wait()
        self._lines.close()


class Starter:
    """Starts decoding processes; from a nursery, once one is wanted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = False
        self.nursery: Nursery | None = None

    def keep_nursery(self) -> None:
        """From now on processes are forked. Where a process has no descriptor (not Linux), nothing changes."""
        self._wanted = hasattr(os, "pidfd_open")
        self._there()

    def _there(self) -> Nursery | None:
        with self._lock:
            if self._wanted and (self.nursery is None or self.nursery.owner != os.getpid()):
                self.nursery = Nursery()
            return self.nursery

    def start(self) -> Worker:
        """A process that waits for its request."""
        nursery = self._there()
        if nursery is not None:
            try:
                return nursery.fork()
            except OSError:  # killed, perhaps for want of memory: this file is decoded without, the next from a new one
                self._give_up(nursery)
        return Started()

    def _give_up(self, nursery: Nursery) -> None:
        with self._lock:
            if self.nursery is nursery:
                self.nursery = None
                nursery.close()

    def close(self) -> None:
        """Without a nursery again."""
        with self._lock:
            self._wanted = False
            nursery, self.nursery = self.nursery, None
        if nursery is not None:
            nursery.close()
