"""The parent's side of one decoding process: start it, hear it, say why it ended, make sure that it ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from preprocessing.errors import MediaError, MediaTooLarge, UndecodableMedia, UnsupportedMedia
from preprocessing.media.formats import Format
from preprocessing.media.metadata import checked
from preprocessing.media.start import ROOT, START_S, Starter
from preprocessing.settings import MediaLimits
from preprocessing.types import Image

RING_BYTES = 32 * 1024**2
MAX_SLOTS = 8
"""Frames decoded ahead, two at least: more smooth out a busy machine, but all of them are memory."""
_LINE_BYTES = 1 << 20
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGSYS)


def filters_calls() -> bool:
    """Whether this machine lets a process give up system calls, tried by one that ends at once.

    Without, decoding is confined by limits alone: enough for one's own files, not for those of strangers.
    """
    command = [sys.executable, "-P", "-s", "-m", "preprocessing.media.sandbox"]
    return subprocess.run(command, env={"PYTHONPATH": ROOT}, capture_output=True).returncode == 0


starter = Starter()


def keep_nursery() -> None:
    """From now on decoding processes are forked from one that has imported the decoders (media.start).

    For services: it costs about 40 MB. Each process still decodes one pass of one file and ends.
    """
    starter.keep_nursery()


class DecodingProcess:
    """One decoding process and the ring of frames in memory that it shares.

    It is given the open file, so it needs no path; secrets in the environment are not passed on.
    """

    def __init__(self, media_fd: int, found: Format, limits: MediaLimits, threads: int) -> None:
        self.warnings: list[str] = []
        self._limits = limits
        self._buffer = b""
        self._ring: mmap.mmap | None = None
        self._shape = (0, 0, 3)
        self._received = 0
        self._slots = 1
        request = {
            "kind": found.kind,
            "decoder": found.decoder,
            "limits": limits.model_dump(),
            "threads": threads,
        }
        self._ring_fd = _anonymous_file()
        try:
            self._worker = starter.start()
        except BaseException:
            os.close(self._ring_fd)
            raise
        self._socket = self._worker.socket
        self._open = True
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended: `header` says why
            socket.send_fds(self._socket, [json.dumps(request).encode()], [media_fd, self._ring_fd])

    def header(self) -> dict[str, Any]:
        """What the header says. Raises the errors of preprocessing.errors."""
        self._receive("ready", timeout=START_S)
        header: dict[str, Any] = self._receive("header")
        width, height = int(header["width"]), int(header["height"])
        limit = self._limits.max_image_pixels if header["kind"] == "image" else self._limits.max_frame_pixels
        if not 0 < width * height <= limit:  # the process has checked it; it is not to be trusted either
            raise MediaTooLarge(f"{width} x {height} pixels; the limit is {limit}")
        header["metadata"] = checked(header.get("metadata"))
        self._shape = (height, width, 3)
        if header["kind"] == "video":
            self._slots = min(MAX_SLOTS, max(2, RING_BYTES // (height * width * 3)))
        return header

    def start_decoding(self) -> None:
        """Lets the process decode; call after `header`."""
        size = self._slots * self._shape[0] * self._shape[1] * 3
        os.ftruncate(self._ring_fd, size)
        if hasattr(fcntl, "F_ADD_SEALS"):  # a process gone wild must not shrink it under us: that would be SIGBUS here
            fcntl.fcntl(self._ring_fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        self._ring = mmap.mmap(self._ring_fd, size)
        self._socket.sendall(b"g")

    def next_frame(self) -> tuple[float, Image] | None:
        """Time in seconds and a copy of the next frame; None after the last one, then `warnings` is set."""
        value = self._receive("frame", "end")
        if isinstance(value, list):
            self.warnings = [str(line) for line in value]
            return None
        assert self._ring is not None
        count = self._shape[0] * self._shape[1] * 3
        slot = np.frombuffer(self._ring, np.uint8, count, self._received % self._slots * count)
        image = slot.reshape(self._shape).copy()
        del slot
        self._received += 1
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have ended after its last frame
            self._socket.sendall(b"e")
        return float(value), image

    def _receive(self, *expected: str, timeout: float | None = None) -> Any:
        while b"\n" not in self._buffer:
            if not self._open:
                raise ValueError("this media file is closed")
            try:
                self._socket.settimeout(timeout or self._limits.max_stall_s)
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                self.close()
                if timeout:
                    raise RuntimeError(f"the decoding process did not start within {timeout:g} s") from None
                raise UndecodableMedia(
                    f"no picture within {self._limits.max_stall_s:g} s", "the file may be damaged; or raise max_stall_s"
                ) from None
            except ConnectionResetError:
                data = b""
            if not data:
                raise self._why_it_ended()
            self._buffer += data
            if len(self._buffer) > _LINE_BYTES:
                self.close()
                raise UndecodableMedia("the decoder went wild")
        line, _, self._buffer = self._buffer.partition(b"\n")
        message = json.loads(line)
        if "error" in message:
            raise self._error(message["error"])
        for name in expected:
            if name in message:
                return message[name]
        raise UndecodableMedia("the decoder went wild")

    def _error(self, error: dict[str, str]) -> Exception:
        if error["code"] == "memory":
            return self._out_of_memory()
        for known in (UnsupportedMedia, MediaTooLarge, UndecodableMedia):
            if known.code == error["code"]:
                return known(error["reason"], error["hint"])
        return RuntimeError(f"the decoding process failed: {error['reason']}")

    def _out_of_memory(self) -> MediaError:
        limit = self._limits.max_memory_bytes / 1024**2
        return MediaTooLarge(f"decoding needs more than {limit:.0f} MB of memory", "raise max_memory_bytes")

    def _why_it_ended(self) -> Exception:
        code = self._worker.status()
        if code == -signal.SIGXCPU:
            return MediaTooLarge(f"decoding took more than {self._limits.max_cpu_s:g} s of CPU time", "raise max_cpu_s")
        if code == -signal.SIGKILL:
            return MediaTooLarge("the decoding process was killed", "the machine may be short of memory")
        if -code in _CRASHES:
            return UndecodableMedia(
                f"the decoder crashed on this file ({signal.Signals(-code).name})", "the file may be damaged or hostile"
            )
        return RuntimeError(f"the decoding process ended with status {code}")

    def close(self) -> None:
        """Ends the process and gives everything back. May be called again."""
        if not self._open:
            return
        self._open = False
        self._worker.close()
        if self._ring is not None:
            self._ring.close()
        os.close(self._ring_fd)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("unmask-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
