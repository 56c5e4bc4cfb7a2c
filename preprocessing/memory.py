"""What glibc's allocator is told, so that memory does not creep up over a long video."""

from __future__ import annotations

import ctypes

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
LARGE_BYTES = 256 * 1024


def return_large_blocks() -> None:
    """Give frames and crops back to the system when they are freed. Does nothing without glibc.

    By default the first freed frame teaches glibc to keep blocks of that size, in an arena a thread; after some minutes
    of 720p the arenas held over 300 MB that nobody used.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
    mallopt(M_ARENA_MAX, 2)
