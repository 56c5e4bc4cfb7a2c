"""The nursery: python -m preprocessing.media.nursery SOCKET LIFELINE, started by media.start.

A packet with three descriptors asks for a child: its socket, its lifeline, and where to tell of it: first a descriptor
of the process, when it has ended its status. Everything stays single-threaded, so that a fork is safe.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys

from preprocessing.media import (
    image,
    sandbox,
    video,  # noqa: F401 (for the children)
    worker,
)


class _Children:
    """Those that run: a descriptor of each process, its number, and where its end is told."""

    def __init__(self) -> None:
        self.waiting = select.poll()
        self._found: dict[int, tuple[int, socket.socket]] = {}

    def add(self, pid: int, told: socket.socket) -> None:
        process = os.pidfd_open(pid)
        self._found[process] = (pid, told)
        self.waiting.register(process, select.POLLIN)
        with contextlib.suppress(OSError):  # who asked has gone: the lifeline ends the child
            socket.send_fds(told, [b"p"], [process])

    def ended(self, process: int) -> None:
        pid, told = self._found.pop(process)
        self.waiting.unregister(process)
        os.close(process)
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(OSError):
            told.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        told.close()

    def forget(self) -> None:
        """In a new child: the others are not its."""
        for process, (_, told) in self._found.items():
            os.close(process)
            told.close()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    lifeline = int(sys.argv[2])
    sandbox.die_with_parent(lifeline)
    control = socket.socket(fileno=int(sys.argv[1]))
    image.preload_plugins()
    children = _Children()
    children.waiting.register(control, select.POLLIN)
    while True:
        for found, _ in children.waiting.poll():
            if found != control.fileno():
                children.ended(found)
                continue
            data, descriptors, _, _ = socket.recv_fds(control, 1, 3)
            if not data:
                os._exit(0)
            channel, life, told = descriptors
            try:
                pid = os.fork()
            except OSError:  # no memory, no numbers: who asked hears that nothing came
                pid = -1
            if pid == 0:
                control.close()
                os.close(lifeline)
                os.close(told)
                children.forget()
                worker.serve(channel, life)
            os.close(channel)
            os.close(life)
            if pid > 0:
                children.add(pid, socket.socket(fileno=told))
            else:
                os.close(told)


if __name__ == "__main__":
    main()
