"""TensorFlow's checkpoints of the second kind (`Saver` since 1.0, "V2"): an index and the tensors' bytes beside it.

PREFIX.index is a LevelDB table of names to BundleEntryProto, with a BundleHeaderProto under the empty name
(tensorflow/core/protobuf/tensor_bundle.proto); PREFIX.data-00000-of-0000N hold the tensors, one after another. Both
carry CRC-32C checksums, which are checked for all that is read.

Nothing of a file is run, and no number in it is believed before it is held against the sizes of the files. Not read:
Snappy blocks and tensors in slices (TensorFlow's `Saver` makes neither for a plain network), big-endian files, and the
one-file format of before ("V1").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.checkpoints import INDEX_SUFFIX, CheckpointError
from detectors.crc32c import crc32c, masked
from detectors.leveldb_table import MAGIC, Damaged, read_table, varint

MAX_INDEX = 16 << 20
"""Bytes; a network of 25 million weights has an index of some 20 kB."""
MAX_RANK, MAX_SHARDS = 8, 1 << 10

OLD_FORMAT = "TensorFlow's old one-file format (V1) is not read: restore it there and save it with today's Saver"

FLOATS: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 19: np.dtype("<f2")}
"""The kinds of numbers that are weights, by TensorFlow's DataType: float, double, half."""


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies, in bytes; `dtype` is TensorFlow's number of its kind."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    sliced: bool


@dataclass(frozen=True)
class Bundle:
    """An opened checkpoint: `entries` by name in ascending order, `shards` the files of the tensors."""

    index: Path
    entries: Mapping[str, Entry]
    shards: list[Path]

    def read(self, name: str) -> NDArray[np.float32]:
        """A tensor in its own shape. Raises CheckpointError, KeyError for a name that is not there."""
        entry = self.entries[name]
        kind = FLOATS.get(entry.dtype)
        if kind is None or entry.sliced:
            what = "is stored in slices" if entry.sliced else f"is no floating-point tensor (DataType {entry.dtype})"
            raise CheckpointError(f"{self.index.name}: {name} {what}, which is not read")
        if entry.size != prod(entry.shape) * kind.itemsize:
            raise CheckpointError(f"{self.index.name} is damaged: {name} has {entry.size} bytes for {entry.shape}")
        shard = self.shards[entry.shard]
        try:
            with shard.open("rb") as file:
                file.seek(entry.offset)
                data = file.read(entry.size)
        except OSError as error:
            raise CheckpointError(f"{shard.name} cannot be read: {error.strerror or error}") from None
        if len(data) != entry.size or masked(crc32c(data)) != entry.crc:
            raise CheckpointError(f"{shard.name} is damaged or belongs to another index: {name} has another checksum")
        return np.frombuffer(data, kind).reshape(entry.shape).astype(np.float32)


def index_file(path: Path) -> Path:
    """The index of a checkpoint that is named by its prefix or one of its files; any other `path` as it is."""
    prefix = re.sub(r"(\.data-\d{5}-of-\d{5}|\.meta)$", "", path.name)
    found = path.with_name(prefix + INDEX_SUFFIX)
    return found if found.is_file() and not (prefix == path.name and path.exists()) else path


def is_table(path: Path) -> bool:
    """Whether a file ends as a LevelDB table does, which both kinds of TensorFlow checkpoints are."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - len(MAGIC), 0))
        return file.read() == MAGIC


def open_bundle(index: Path) -> Bundle:
    """Read an index and find its data files. Raises CheckpointError."""
    try:
        if index.stat().st_size > MAX_INDEX:
            raise CheckpointError(f"{index.name} is larger than an index is, {MAX_INDEX >> 20} MiB; {OLD_FORMAT}")
        data = index.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{index.name} cannot be read: {error.strerror or error}") from None
    try:
        count, entries = _entries(data)
        shards = [_shard(index, number, count) for number in range(count)]
        _check_places(entries, [shard.stat().st_size for shard in shards])
    except Damaged as error:
        raise CheckpointError(f"{index.name} is refused: {error}") from None
    return Bundle(index, entries, shards)


def _shard(index: Path, number: int, count: int) -> Path:
    shard = index.with_name(f"{index.name.removesuffix(INDEX_SUFFIX)}.data-{number:05d}-of-{count:05d}")
    if not shard.is_file():
        raise Damaged(f"its tensors are in {shard.name}, which must lie beside it and does not")
    return shard


def _entries(table: bytes) -> tuple[int, dict[str, Entry]]:
    """The number of data files and the entries of a table's bytes."""
    pairs = read_table(table)
    key, header = next(pairs, (None, b""))
    if key != b"":
        raise Damaged("it has no header")
    count = _shard_count(header)
    entries: dict[str, Entry] = {}
    for key, found in pairs:
        entry = _entry(found)
        if not entry.sliced and entry.shard >= count:
            raise Damaged(f"a tensor is in data file {entry.shard} of {count}")
        try:
            entries[key.decode()] = entry
        except UnicodeDecodeError:
            raise Damaged("a tensor's name is not text") from None
    return count, entries


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a protocol buffer's fields; fixed32 and fixed64 as numbers."""
    data, at = memoryview(message), 0
    while at < len(data):
        key, at = varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = varint(data, at)
            yield key >> 3, value
            continue
        size, at = varint(data, at) if wire == 2 else ({1: 8, 5: 4}.get(wire, -1), at)
        if size < 0 or at + size > len(data):
            raise Damaged("a description of a tensor is damaged")
        part = bytes(data[at : at + size])
        yield key >> 3, part if wire == 2 else int.from_bytes(part, "little")
        at += size


def _entry(message: bytes) -> Entry:
    numbers: dict[int, int] = {}
    shape: tuple[int, ...] = ()
    sliced = False
    for number, value in _fields(message):
        if number == 2 and isinstance(value, bytes):
            shape = _shape(value)
        elif number == 7:
            sliced = True
        elif isinstance(value, int):
            numbers[number] = value
    dtype, shard, offset, size, crc = (numbers.get(number, 0) for number in (1, 3, 4, 5, 6))
    return Entry(dtype, shape, shard, offset, size, crc, sliced)


def _shape(message: bytes) -> tuple[int, ...]:
    shape: list[int] = []
    for number, value in _fields(message):
        if number == 2 and isinstance(value, bytes):
            sizes = [size for inner, size in _fields(value) if inner == 1 and isinstance(size, int)]
            shape.append(sizes[-1] if sizes else 0)
    if len(shape) > MAX_RANK or prod(max(side, 1) for side in shape) >= 1 << 40:
        raise Damaged("a tensor has an impossible shape")
    return tuple(shape)


def _shard_count(header: bytes) -> int:
    """The number of data files that the header tells."""
    found = dict(_fields(header))
    count = found.get(1, 0)
    if not isinstance(count, int):
        raise Damaged(OLD_FORMAT)
    if found.get(2, 0):
        raise Damaged("it was written on a big-endian machine")
    if count > MAX_SHARDS:
        raise Damaged(f"it names {count} data files")
    return count


def _check_places(entries: Mapping[str, Entry], sizes: list[int]) -> None:
    """Every tensor lies in its file, and no two share bytes: so all of them together are no larger than the files."""
    placed = {name: entry for name, entry in entries.items() if not entry.sliced and entry.size}
    for name, entry in placed.items():
        if entry.offset + entry.size > sizes[entry.shard]:
            raise Damaged(f"{name} lies beyond the end of its data file, which was cut off or is another's")
    ordered = sorted(placed.values(), key=lambda entry: (entry.shard, entry.offset))
    for one, following in pairwise(ordered):
        if one.shard == following.shard and one.offset + one.size > following.offset:
            raise Damaged("its tensors overlap")
