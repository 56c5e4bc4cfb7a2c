"""The decoding process: python -m preprocessing.media.worker SOCKET LIFELINE, or a child of the nursery (media.start).

It waits for one request, which brings the open media file and the ring's memory with it. It talks lines of JSON over a
socket: `ready`, `header`, then, after the parent's go, one `frame` for each slot of the ring that it fills, then `end`;
or `error` at any time. The parent answers one byte for each slot that it has emptied.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import sys
from typing import Any, NoReturn

import numpy as np

from preprocessing.errors import MediaError
from preprocessing.media import sandbox


def _source(request: dict[str, Any], channel: _Channel) -> Any:
    fd, decoder, limits = request["media_fd"], request["decoder"], request["limits"]
    confinement = (limits["max_memory_bytes"], limits["max_cpu_s"])
    if request["kind"] == "image":
        from preprocessing.media import image

        image.load_plugins(decoder)
        sandbox.confine(*confinement)
        channel.send("ready", True)
        return image.ImageSource(fd, decoder, limits)
    from preprocessing.media import video

    sandbox.confine(*confinement)
    channel.send("ready", True)
    return video.VideoSource(fd, decoder, limits, request["threads"])


class _Channel:
    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def send(self, kind: str, value: Any) -> None:
        self._socket.sendall(json.dumps({kind: value}).encode() + b"\n")

    def request(self) -> dict[str, Any]:
        """The request with its two descriptors; ends the process where the parent is gone."""
        data, descriptors, _, _ = socket.recv_fds(self._socket, 1 << 16, 2)
        if len(descriptors) != 2:
            os._exit(0)
        media, ring = descriptors
        return {**json.loads(data), "media_fd": media, "ring_fd": ring}

    def receive(self, count: int) -> int:
        """How many bytes came, at most `count`; ends the process where the parent is gone."""
        got = len(self._socket.recv(count))
        if not got:
            os._exit(0)
        return got


def _serve(request: dict[str, Any], channel: _Channel) -> None:
    source = _source(request, channel)
    channel.send("header", source.header)
    channel.receive(1)
    height, width, _ = source.shape
    size = height * width * 3
    slots = os.fstat(request["ring_fd"]).st_size // size
    os.close(0)  # mmap keeps a duplicate of the descriptor, and the sandbox has left no number free
    ring = np.frombuffer(mmap.mmap(request["ring_fd"], slots * size), np.uint8).reshape(slots, height, width, 3)
    emptied = 0
    for filled, (time, pixels) in enumerate(source.frames()):
        while filled - emptied >= slots:
            emptied += channel.receive(slots)
        np.copyto(ring[filled % slots], pixels)
        channel.send("frame", time)
    channel.send("end", source.warnings)


def serve(connection: int, lifeline: int) -> NoReturn:
    """One request by that socket; never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    sandbox.die_with_parent(lifeline)
    channel = _Channel(connection)
    request = channel.request()
    try:
        _serve(request, channel)
    except MediaError as error:
        channel.send("error", {"code": error.code, "reason": error.reason, "hint": error.hint})
    except MemoryError:
        channel.send("error", {"code": "memory"})
    except Exception as error:
        channel.send("error", {"code": "internal", "reason": f"{type(error).__name__}: {error}"})
    # The interpreter's tidy end is skipped: a codec thread in a bad state must not keep it from ending.
    os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
