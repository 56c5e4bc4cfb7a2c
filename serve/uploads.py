"""A multipart upload written to disk as it arrives: the limit on bytes holds while it streams, not after."""

from __future__ import annotations

import asyncio
import errno
import time
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from preprocessing.errors import MediaTooLarge
from serve.problems import Problem

MAX_FIELD_BYTES = 64 * 1024
MAX_PARTS = 8
MAX_HEADER_BYTES = 8 * 1024
FRAMING_BYTES = 1024**2
"""What boundaries, headers and fields may add to the file in a request's length."""


@dataclass
class Form:
    """The text fields of the form, and the display name of the file where one came."""

    fields: dict[str, str] = field(default_factory=dict)
    file_name: str | None = None


def display_name(name: str) -> str:
    """A client's file name for showing only: no folders, no control characters, at most 200 characters."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    # Cc and Cf: control characters and the invisible ones that turn the direction of writing round (photo_gpj.exe).
    kept = "".join(c for c in last if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn")).strip()
    return kept[:200] or "unnamed"


class SizedFile:
    """A file that refuses to grow over `max_bytes` with MediaTooLarge, and a full disk with 507."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.size = 0
        self._max = max_bytes
        self._file: BinaryIO = path.open("wb")

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        self.size += len(data)
        check_size(self.size, self._max)
        try:
            self._file.write(data)
        except OSError as error:
            raise disk_problem(error) from None

    def __enter__(self) -> SizedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError as fault:
            if error is None:
                raise disk_problem(fault) from None


def check_size(size: int, max_bytes: int) -> None:
    """Raises MediaTooLarge above the limit."""
    if size > max_bytes:
        raise MediaTooLarge(f"more than {max_bytes / 1024**2:.1f} MB, this server's limit", "cut or compress it")


def disk_problem(error: OSError) -> Problem:
    """507 for a full disk; the operator reads the rest in the log."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "the server's storage is full" if full else f"the server could not store the file ({error.strerror})"
    return Problem(507, "storage", reason, "tell its operator")


class _Parser:
    """Callbacks of the multipart parser: the part `file` goes to disk, the others into memory."""

    def __init__(self, boundary: bytes, out: SizedFile) -> None:
        self.form = Form()
        self._out = out
        self._parts = 0
        self._header_bytes = 0
        self._key = self._value = b""
        self._name = ""
        self._is_file = False
        self._text = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._done,
            },
        )
        self.complete = False

    def write(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise Problem(422, "form", f"the form cannot be read: {error}", "send multipart/form-data") from None

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise Problem(422, "form", f"the form has more than {MAX_PARTS} parts", "send file, settings, name, tags")
        self._header_bytes = 0
        self._name, self._is_file, self._text = "", False, bytearray()

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > MAX_HEADER_BYTES:
            raise Problem(422, "form", "a part of the form has too long a header", "shorten the file's name")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._key += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._key.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
            self._is_file = self._name == "file"
            if self._is_file:
                if self.form.file_name is not None:
                    raise Problem(422, "form", "the form has more than one file", "send one file a request")
                self.form.file_name = display_name(options.get(b"filename", b"").decode("utf-8", "replace"))
        self._key = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._out.write(memoryview(data)[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > MAX_FIELD_BYTES:
            raise Problem(413, "form", f"the field {self._name[:40]!r} is over {MAX_FIELD_BYTES // 1024} KB")

    def _end(self) -> None:
        if not self._is_file:
            self.form.fields[self._name] = self._text.decode("utf-8", "replace")

    def _done(self) -> None:
        self.complete = True


async def receive_form(request: Request, path: Path, max_bytes: int, stall_s: float, total_s: float) -> Form:
    """Write the part `file` of a multipart request to `path` and return the rest.

    Raises MediaTooLarge over `max_bytes` as soon as that is known, Problem for a form that is no form, for a client
    that sends nothing for `stall_s`, is not done after `total_s` or goes away, and for a full disk. The caller removes
    `path`.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Problem(
            415,
            "form",
            "the request is not multipart/form-data",
            "send the file as the form field 'file', as curl -F does",
        )
    claimed = request.headers.get("content-length", "")
    if claimed.isdigit():
        check_size(int(claimed) - FRAMING_BYTES, max_bytes)
    with SizedFile(path, max_bytes) as out:
        parser = _Parser(options[b"boundary"], out)
        try:
            async for data in _patiently(request.stream(), stall_s, total_s):
                parser.write(data)
        except ClientDisconnect:
            raise Problem(400, "form", "the upload was broken off") from None
        if not parser.complete:
            raise Problem(422, "form", "the form ends in the middle", "send the whole file")
    return parser.form


async def _patiently(stream: AsyncIterator[bytes], stall_s: float, total_s: float) -> AsyncIterator[bytes]:
    until = time.monotonic() + total_s
    while True:
        left = until - time.monotonic()
        try:
            async with asyncio.timeout(min(stall_s, left)):
                data = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            slow = left < stall_s
            reason = f"it took more than {total_s:g} s" if slow else f"nothing came for {stall_s:g} s"
            hint = "send a smaller file, or from a faster line" if slow else "send the file again"
            raise Problem(408, "stalled", reason, hint) from None
        yield data
