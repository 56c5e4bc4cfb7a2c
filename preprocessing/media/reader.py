"""The public face of the media layer: probe a file, iterate over its frames."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from preprocessing.errors import MediaMissing, MediaTooLarge
from preprocessing.media.formats import HEAD_BYTES, Format, sniff
from preprocessing.media.process import DecodingProcess
from preprocessing.media.process import filters_calls as filters_calls
from preprocessing.media.process import keep_nursery as keep_nursery
from preprocessing.settings import MediaLimits
from preprocessing.types import Frame, MediaInfo

DEFAULT_LIMITS = MediaLimits()


class Media:
    """An opened image or video: `info`, then frames by iteration, as often as wanted.

    Each pass decodes anew in a process of its own, so memory does not grow with the length of the video; leaving the
    loop ends that process. `warnings` is complete when a pass has reached its end. Made by `open_media`.
    """

    def __init__(self, path: Path | str, limits: MediaLimits, threads: int) -> None:
        self.path = Path(path)
        self.warnings: list[str] = []
        self._limits = limits
        self._threads = threads
        self._passes: list[DecodingProcess] = []
        self._fd = _open(self.path)
        try:
            self._found = _check(self._fd, limits)
            ready = self._start()
            # The header is parsed meanwhile, in the other process.
            size, digest = _digest(self._fd)
            self.info = MediaInfo(**ready.header(), size_bytes=size, sha256=digest)
        except BaseException:
            self.close()
            raise
        self._ready: DecodingProcess | None = ready

    def _start(self) -> DecodingProcess:
        process = DecodingProcess(self._fd, self._found, self._limits, self._threads)
        self._passes.append(process)
        return process

    def __iter__(self) -> Iterator[Frame]:
        """Yields every frame, `image` being an array of its own. Raises the errors of preprocessing.errors."""
        if self._fd < 0:
            raise ValueError("this media file is closed")
        process, self._ready = self._ready, None
        again = process is None
        process = process or self._start()
        try:
            if again:
                process.header()
            process.start_decoding()
            index = 0
            while (decoded := process.next_frame()) is not None:
                yield Frame(index, *decoded)
                index += 1
            self.warnings = process.warnings
        finally:
            process.close()
            self._passes.remove(process)

    def close(self) -> None:
        """Ends every pass and closes the file. May be called again."""
        for process in self._passes:
            process.close()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def __enter__(self) -> Media:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_media(path: Path | str, limits: MediaLimits = DEFAULT_LIMITS, *, threads: int = 2) -> Media:
    """Opens an image or a video for decoding; use it as a context manager.

    Frames are RGB uint8 (H, W, 3), upright, with their presentation time in seconds from the first; an image is one
    frame at time 0. `threads` of the codec change the speed, never the pixels.

    Raises MediaMissing, UnsupportedMedia, MediaTooLarge or UndecodableMedia.
    """
    return Media(path, limits, threads)


def probe(path: Path | str, limits: MediaLimits = DEFAULT_LIMITS) -> MediaInfo:
    """What the header says, and the file's SHA-256. Raises what `open_media` raises.

    Every limit is checked on the header before a pixel is decoded; of a video that passes, the first frame then is,
    because libav tells the orientation with it.
    """
    with open_media(path, limits, threads=1) as media:
        return media.info


def _open(path: Path) -> int:
    """A descriptor of a regular file; a pipe or a device is never opened, let alone waited for."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise MediaMissing("a directory, not a file", "name the files in it")
        if not stat.S_ISREG(mode):
            raise MediaMissing("not a regular file (a pipe, a socket or a device)", "save the data to a file first")
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise MediaMissing("no such file", "check the path") from None
    except PermissionError:
        raise MediaMissing("no permission to read it", "check the rights of the file and of its folders") from None
    except (OSError, ValueError) as error:  # too long a name, a loop of links, a NUL in it
        raise MediaMissing(f"it cannot be opened ({getattr(error, 'strerror', None) or error})") from None


def _check(fd: int, limits: MediaLimits) -> Format:
    status = os.fstat(fd)
    if status.st_size > limits.max_bytes:
        raise MediaTooLarge(
            f"{status.st_size / 1024**2:.1f} MB; the limit is {limits.max_bytes / 1024**2:.1f} MB",
            "cut or compress it, or raise max_bytes",
        )
    return sniff(os.pread(fd, HEAD_BYTES, 0))


def _digest(fd: int) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while block := os.pread(fd, 1 << 20, size):
        digest.update(block)
        size += len(block)
    return size, digest.hexdigest()
