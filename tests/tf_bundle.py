"""TensorFlow checkpoints as `tf.train.Saver` writes them (format V2), for the tests of the importer, built here from
the published formats; the checksums of the index are computed bit by bit, apart from the reader's."""

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detectors import crc32c as fast

MAGIC = 0xDB4775248B80FB57
DATA_TYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19}


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def mask(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    """A protocol buffer's field; as in TensorFlow, 0 is not written."""
    return varint(field << 3) + varint(value) if value else b""


def message(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def header(shards: int = 1, big_endian: bool = False) -> bytes:
    return number(1, shards) + number(2, int(big_endian)) + message(3, number(1, 1))


def entry(dtype: int, shape: Iterable[int], shard: int, offset: int, size: int, crc: int) -> bytes:
    dims = b"".join(message(2, number(1, side)) for side in shape)
    place = number(3, shard) + number(4, offset) + number(5, size)
    return number(1, dtype) + message(2, dims) + place + varint(6 << 3 | 5) + struct.pack("<I", crc)


def block(pairs: Iterable[tuple[bytes, bytes]], every: int) -> bytes:
    """`every`: entries from one restart point to the next; between them keys leave out what they share."""
    out, restarts, last = bytearray(), [0], b""
    for index, (key, value) in enumerate(pairs):
        shared = 0
        if index and index % every == 0:
            restarts.append(len(out))
        elif index:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return bytes(out) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table(pairs: list[tuple[bytes, bytes]], per_block: int = 100, compression: int = 0) -> bytes:
    """A LevelDB table; `compression` is only said, not done."""
    parts = [pairs[i : i + per_block] for i in range(0, len(pairs), per_block)]
    return table_of([(part[-1][0], block(part, 16)) for part in parts], compression)


def table_of(blocks: list[tuple[bytes, bytes]], compression: int = 0) -> bytes:
    """A table of blocks, each with its last key."""
    out = bytearray()

    def add(content: bytes) -> bytes:
        handle = varint(len(out)) + varint(len(content))
        content += bytes([compression])
        out.extend(content + struct.pack("<I", mask(crc32c(content))))
        return handle

    index = [(key, add(content)) for key, content in blocks]
    footer = add(block([], 16)) + add(block(index, 1))
    return bytes(out) + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def write_bundle(prefix: Path, tensors: Mapping[str, NDArray[np.generic]], shards: int = 1) -> Path:
    """The tensors, dealt out to the data files in turn; gives the index."""
    files = [bytearray() for _ in range(shards)]
    pairs = [(b"", header(shards))]
    for turn, name in enumerate(sorted(tensors, key=str.encode)):
        array, file = tensors[name], files[turn % shards]
        data = array.tobytes()
        place = (turn % shards, len(file), len(data))
        kind = DATA_TYPES[array.dtype.name]
        pairs.append((name.encode(), entry(kind, array.shape, *place, mask(fast.crc32c(data)))))
        file += data
    for shard, content in enumerate(files):
        prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}").write_bytes(content)
    index = prefix.with_name(prefix.name + ".index")
    index.write_bytes(table(pairs))
    return index
