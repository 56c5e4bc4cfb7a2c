"""Untrusted images and videos to upright RGB frames, decoded in a process of their own.

`probe` reads the header, `open_media` yields the frames, `read_credentials` what is signed (C2PA). The imports are lazy
because the decoding process imports this package too and must start fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from preprocessing.media.credentials import read_credentials
    from preprocessing.media.reader import Media, filters_calls, keep_nursery, open_media, probe

__all__ = ["Media", "filters_calls", "keep_nursery", "open_media", "probe", "read_credentials"]


def __getattr__(name: str) -> Any:
    if name == "read_credentials":
        from preprocessing.media import credentials

        return credentials.read_credentials
    if name in __all__:
        from preprocessing.media import reader

        return getattr(reader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
