"""TensorFlow's checkpoints: read exactly, or refused with the reason; hostile ones cost no more than others."""

import contextlib
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tf_bundle as tf
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detectors.checkpoints import CheckpointError
from detectors.crc32c import crc32c, masked
from detectors.leveldb_table import MAX_ENTRIES, Damaged, read_table
from detectors.tf_checkpoint import Bundle, index_file, is_table, open_bundle


def tensors(count: int = 40) -> dict[str, NDArray[np.generic]]:
    """Weights in scopes whose names share their beginnings, and what a trainer leaves beside them."""
    random = np.random.default_rng(0)
    found: dict[str, NDArray[np.generic]] = {
        f"net/block{i // 10 + 1}/unit_{i % 10 + 1}/weights": random.normal(size=(3, i + 1)).astype(np.float32)
        for i in range(count)
    }
    return found | {"global_step": np.array(70_000, np.int64), "net/empty": np.zeros((0, 4), np.float32)}


@pytest.mark.parametrize(("data", "expected"), [(b"", 0), (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA)])
def test_checksums_are_those_of_the_standard(data: bytes, expected: int) -> None:
    assert crc32c(data) == tf.crc32c(data) == expected


@pytest.mark.parametrize("size", [1023, 16_384, 16_385, 50_000, 65_537])
def test_checksums_of_many_pieces_are_those_of_the_whole(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert crc32c(data) == tf.crc32c(data)
    assert masked(crc32c(memoryview(data)[5:])) == tf.mask(tf.crc32c(data[5:]))


@pytest.mark.parametrize("shards", [1, 3])
def test_every_tensor_comes_back_as_it_was_written(tmp_path: Path, shards: int) -> None:
    written = tensors()
    bundle = open_bundle(tf.write_bundle(tmp_path / "model.ckpt-7", written, shards))
    assert list(bundle.entries) == sorted(written)
    assert [shard.name for shard in bundle.shards] == [
        f"model.ckpt-7.data-0000{i}-of-0000{shards}" for i in range(shards)
    ]
    for name, array in written.items():
        assert bundle.entries[name].shape == array.shape
        if array.dtype == np.float32:
            assert np.array_equal(bundle.read(name), array)


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_other_floating_points_become_single(tmp_path: Path, kind: type[np.floating]) -> None:
    array = np.arange(6, dtype=kind).reshape(2, 3) / 4
    found = open_bundle(tf.write_bundle(tmp_path / "m", {"w": array})).read("w")
    assert found.dtype == np.float32 and np.array_equal(found, array)


@given(st.dictionaries(st.binary(min_size=1, max_size=40), st.binary(max_size=30), max_size=60), st.integers(1, 70))
def test_tables_of_any_keys_and_blocks_are_read(pairs: dict[bytes, bytes], per_block: int) -> None:
    ordered = sorted(pairs.items())
    assert list(read_table(tf.table(ordered, per_block))) == ordered


def test_a_checkpoint_is_named_by_its_prefix_or_any_of_its_files(tmp_path: Path) -> None:
    index = tf.write_bundle(tmp_path / "model.ckpt-7", tensors(1))
    for name in ("model.ckpt-7", "model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001", "model.ckpt-7.meta"):
        assert index_file(tmp_path / name) == index
    other = tmp_path / "model.pth"
    other.touch()
    tf.write_bundle(other, tensors(1))
    assert index_file(other) == other and index_file(tmp_path / "gone") == tmp_path / "gone"
    assert is_table(index) and not is_table(other) and not is_table(tmp_path)


def opened(tmp_path: Path, change: Callable[[bytes], bytes]) -> Bundle:
    index = tf.write_bundle(tmp_path / "m", tensors())
    index.write_bytes(change(index.read_bytes()))
    return open_bundle(index)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b"", "cut off"),
        (lambda b: b[:-1], "cut off"),
        (lambda b: b[: len(b) // 2], "cut off"),
        (lambda b: b[:-8] + b"\x57\xfb\x80\x8b\x24\x75\x47\xda", "no table"),
        (lambda b: b"PK\3\4" * 20, "no table"),
        (lambda b: b[100:], "a block (lies outside|has another checksum)"),
        (lambda b: b[:60] + bytes([b[60] ^ 1]) + b[61:], "another checksum"),
        (lambda b: b[:-48] + b"\xff" * 40 + b[-8:], "a number has no end"),
        (lambda b: b[:-48] + (tf.varint(0) * 2 + tf.varint(1 << 60) * 2).ljust(40, b"\0") + b[-8:], "lies outside"),
    ],
)  # fmt: skip
def test_a_damaged_index_is_refused(tmp_path: Path, change: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(CheckpointError, match=rf"m\.index is refused: .*{message}"):
        opened(tmp_path, change)


@given(st.data())
def test_no_cut_and_no_flipped_bit_of_an_index_is_read_or_crashes(data: st.DataObject) -> None:
    pairs = [(f"net/{i}/weights".encode(), tf.entry(1, (2, 3), 0, 24 * i, 24, 7)) for i in range(9)]
    table = tf.table(pairs)
    at = data.draw(st.integers(0, len(table) - 1))
    cut = table[:at]
    flipped = bytearray(table)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Damaged):
        list(read_table(cut))
    with contextlib.suppress(Damaged):
        assert list(read_table(bytes(flipped))) == pairs  # the footer's padding and the empty block mean nothing


def write(folder: Path, pairs: list[tuple[bytes, bytes]], data: bytes = bytes(64)) -> Path:
    (folder / "m.data-00000-of-00001").write_bytes(data)
    index = folder / "m.index"
    index.write_bytes(tf.table(pairs))
    return index


HEADER = (b"", tf.header())


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "no header"),
        ([(b"w", tf.entry(1, (2,), 0, 0, 8, 0))], "no header"),
        ([(b"", tf.header(big_endian=True))], "big-endian"),
        ([(b"", tf.header(1 << 40))], "names 1099511627776 data files"),
        ([(b"", tf.header(2))], r"m\.data-00000-of-00002, which must lie beside it"),
        ([(b"", tf.message(1, b"\x0a\x00"))], "old one-file format"),
        ([HEADER, (b"w", tf.entry(1, (2,), 1, 0, 8, 0))], "data file 1 of 1"),
        ([HEADER, (b"w", tf.entry(1, (2,), 0, 60, 8, 0))], "w lies beyond the end"),
        ([HEADER, (b"w", tf.entry(1, (1 << 30,), 0, 0, 1 << 32, 0))], "w lies beyond the end"),
        ([HEADER, (b"w", tf.entry(1, (2,), 0, (1 << 64) - 8, 8, 0))], "w lies beyond the end"),
        ([HEADER, (b"w", tf.entry(1, (1 << 30, 1 << 30), 0, 0, 8, 0))], "impossible shape"),
        ([HEADER, (b"w", tf.entry(1, (1,) * 9, 0, 0, 4, 0))], "impossible shape"),
        ([HEADER, *((n, tf.entry(1, (2,), 0, 4 * i, 8, 0)) for i, n in enumerate((b"a", b"b")))], "tensors overlap"),
        ([HEADER, (b"w", tf.entry(1, (2,), 0, 0, 8, 0)[:-2])], "description of a tensor is damaged"),
        ([HEADER, (b"w", tf.message(9, b"x")[:-1])], "description of a tensor is damaged"),
        ([HEADER, (b"w", b"\x0b")], "description of a tensor is damaged"),
        ([HEADER, (b"\xff", tf.entry(1, (2,), 0, 0, 8, 0))], "name is not text"),
        ([HEADER, (b"b", b""), (b"a", b"")], "not in order"),
        ([HEADER, (b"w" * 1025, b"")], "name than 1,024 bytes"),
    ],
)  # fmt: skip
def test_an_index_that_says_the_impossible_is_refused(
    tmp_path: Path, pairs: list[tuple[bytes, bytes]], message: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"m\.index is refused: .*{message}"):
        open_bundle(write(tmp_path, pairs))


def test_compressed_blocks_are_refused_with_the_way_out(tmp_path: Path) -> None:
    index = write(tmp_path, [HEADER])
    index.write_bytes(tf.table([HEADER], compression=1))
    with pytest.raises(CheckpointError, match=r"Snappy.*save it again"):
        open_bundle(index)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (tf.entry(9, (2,), 0, 0, 16, 0), r"w is no floating-point tensor \(DataType 9\)"),
        (tf.entry(1, (3,), 0, 0, 8, 0), r"w has 8 bytes for \(3,\)"),
        (tf.entry(1, (2,), 0, 0, 8, 1), "another checksum"),
        (tf.entry(1, (2,), 0, 0, 8, 0) + tf.message(7, b""), "w is stored in slices"),
    ],
)
def test_a_tensor_that_is_not_what_it_says_is_refused(tmp_path: Path, given: bytes, message: str) -> None:
    bundle = open_bundle(write(tmp_path, [HEADER, (b"w", given)]))
    with pytest.raises(CheckpointError, match=message):
        bundle.read("w")


def test_a_data_file_that_was_cut_off_or_is_gone_is_named(tmp_path: Path) -> None:
    index = tf.write_bundle(tmp_path / "m", tensors())
    data = tmp_path / "m.data-00000-of-00001"
    whole = data.read_bytes()
    bundle = open_bundle(index)
    data.write_bytes(bytes(len(whole)))
    with pytest.raises(CheckpointError, match=r"m\.data-00000-of-00001 is damaged or belongs to another index: net/"):
        bundle.read("net/block1/unit_1/weights")
    data.write_bytes(whole[:-4])
    with pytest.raises(CheckpointError, match="lies beyond the end of its data file"):
        open_bundle(index)
    data.unlink()
    with pytest.raises(CheckpointError, match=r"m\.data-00000-of-00001, which must lie beside it and does not"):
        open_bundle(index)
    with pytest.raises(CheckpointError, match=r"m\.data-00000-of-00001 cannot be read"):
        bundle.read("net/block1/unit_1/weights")


def test_many_long_names_in_a_short_file_do_not_fill_the_memory() -> None:
    entries = tf.varint(0) + tf.varint(1004) + tf.varint(0) + bytes(1004)
    for number in range(1, MAX_ENTRIES + 50):
        entries += tf.varint(1000) + tf.varint(4) + tf.varint(0) + struct.pack(">I", number)
    table = tf.table_of([(b"b", entries + struct.pack("<II", 0, 1))])
    assert len(table) < 1_000_000
    tracemalloc.start()
    with pytest.raises(Damaged, match="more than 65536 entries"):
        for _ in read_table(table):
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_block_that_is_named_again_and_again_is_read_once() -> None:
    content = tf.block([(b"a", b"")], 16) + b"\0"
    block = content + struct.pack("<I", tf.mask(tf.crc32c(content)))
    handle = tf.varint(0) + tf.varint(len(content) - 1)
    index = tf.block([(struct.pack(">I", i), handle) for i in range(1000)], 1) + b"\0"
    place = tf.varint(len(block)) + tf.varint(len(index) - 1)
    whole = block + index + struct.pack("<I", tf.mask(tf.crc32c(index)))
    table = whole + (tf.varint(0) * 2 + place).ljust(40, b"\0") + struct.pack("<Q", tf.MAGIC)
    with pytest.raises(Damaged, match="overlap"):
        list(read_table(table))


def test_a_file_too_large_for_an_index_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "resnet_v1_50.ckpt"
    with path.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(0, 2)
        file.write(struct.pack("<Q", tf.MAGIC))
    assert is_table(path)
    with pytest.raises(
        CheckpointError, match=r"resnet_v1_50\.ckpt is larger than an index is.*old one-file format \(V1\)"
    ):
        open_bundle(path)
