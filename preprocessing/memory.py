"""What glibc's allocator is told, so that memory does not creep up over a long video; and Python's collector."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

M_ARENA_MAX = -8


def share_arenas() -> None:
    """Two pools of memory for all threads, so that what one has freed serves another. Does nothing without glibc.

    By default each thread gets a pool, and keeps what it once held: after a minute of 720p that was 360 MB more.
    (Giving every large block back at once, M_MMAP_THRESHOLD, holds less still, but lets the system clear each layer's
    output anew: the detectors took 1.7 times as long.)
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(M_ARENA_MAX, 2)


def give_back() -> None:
    """What is free goes back to the system now: about a video or a large still, whose memory others may not need."""
    with suppress(OSError, AttributeError, TypeError):  # without glibc
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def loading() -> Iterator[None]:
    """For imports and models, which stay until the process ends: meanwhile nothing is looked at for being garbage, and
    what came in never is. That takes a fifth of a command's start, and half a second of its end, with torch."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was:
            gc.enable()
