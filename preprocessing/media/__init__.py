"""Untrusted images and videos to upright RGB frames, decoded in a process of their own.

`probe` reads the header, `open_media` yields the frames. The imports are lazy because the decoding process imports
this package too and must start fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from preprocessing.media.reader import Media, keep_spare, open_media, probe

__all__ = ["Media", "keep_spare", "open_media", "probe"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from preprocessing.media import reader

        return getattr(reader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
