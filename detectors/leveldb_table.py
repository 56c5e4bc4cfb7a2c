"""LevelDB's table format (github.com/google/leveldb, doc/table_format.md), read whole: sorted keys and their values.

Made for files from anywhere: no number in one is believed before it is held against what is there, so that reading
takes time and memory in proportion to the file. Blocks compressed with Snappy are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from detectors.crc32c import crc32c, masked

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
FOOTER = 48
TRAILER = 5
"""Bytes after a block: its compression and its checksum."""
MAX_ENTRIES, MAX_KEY = 1 << 16, 1 << 10
"""Entries share the beginnings of their keys, so a short file could name many long ones."""


class Damaged(ValueError):
    """What is wrong with the content of a file, without its name."""


def read_table(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values in ascending order, each block's checksum tested before it is read. Raises Damaged."""
    if len(table) < FOOTER or not table.endswith(MAGIC):
        raise Damaged("it is no table, or was cut off: it does not end as one")
    footer = memoryview(table)[-FOOTER:]
    _, _, at = _handle(footer, 0)
    offset, size, _ = _handle(footer, at)
    last: bytes | None = None
    seen, end = 0, 0
    for _, value in _block(table, offset, size):
        start, length, _ = _handle(memoryview(value), 0)
        if start < end:
            raise Damaged("its blocks overlap")
        end = start + length + TRAILER
        for key, found in _block(table, start, length):
            seen += 1
            if seen > MAX_ENTRIES:
                raise Damaged(f"it has more than {MAX_ENTRIES} entries")
            if last is not None and key <= last:
                raise Damaged("its names are not in order")
            last = key
            yield key, found


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one block; a key names how much of the one before it shares."""
    end = offset + size
    if end + TRAILER > len(table) - FOOTER or size < 4:
        raise Damaged("a block lies outside it")
    kind, checksum = struct.unpack_from("<BI", table, end)
    if masked(crc32c(memoryview(table)[offset : end + 1])) != checksum:
        raise Damaged("a block has another checksum: it is damaged")
    if kind:
        raise Damaged(
            "its blocks are compressed (Snappy); TensorFlow's Saver writes them plain: save it again with that"
        )
    block = memoryview(table)[offset:end]
    (restarts,) = struct.unpack_from("<I", block, size - 4)
    stop = size - 4 * (restarts + 1)
    if stop < 0:
        raise Damaged("a block has more restart points than bytes")
    key, at = b"", 0
    while at < stop:
        shared, at = varint(block, at)
        fresh, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or shared + fresh > MAX_KEY or at + fresh + length > stop:
            raise Damaged("an entry is longer than its block, or its name than 1,024 bytes")
        key = key[:shared] + bytes(block[at : at + fresh])
        yield key, bytes(block[at + fresh : at + fresh + length])
        at += fresh + length


def _handle(data: memoryview, at: int) -> tuple[int, int, int]:
    """Offset and size of a block, and where the handle ends."""
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return offset, size, at


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at `at`, 0 to 2 ** 70, and where the next thing begins. Raises Damaged."""
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Damaged("a number has no end")
