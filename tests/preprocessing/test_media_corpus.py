"""A corpus of hostile files, and a fuzzer: each gives pictures or a reason, and the process that asked stays small."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest
from hostile_corpus import VIDEOS, corpus, videos, whole
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preprocessing.errors import MediaError
from preprocessing.media import keep_nursery, open_media, process
from preprocessing.media.start import Starter
from preprocessing.settings import MediaLimits

LIMITS = MediaLimits(max_memory_bytes=1024**3, max_cpu_s=20, max_stall_s=10)
FRAMES = 40
"""Read of each file; the rest is dropped with its process."""


@pytest.fixture(scope="module", autouse=True)
def nursery() -> Iterator[None]:
    """As in a service; it ends with this file's tests."""
    kept = process.starter
    process.starter = Starter()
    keep_nursery()
    yield
    process.starter.close()
    process.starter = kept


def read(path: Path) -> str:
    """`read`, or the code of the refusal, which has words for people and no trace of the program."""
    try:
        with open_media(path, LIMITS) as media:
            for number, frame in enumerate(media):
                assert frame.image.ndim == 3 and frame.image.shape[2] == 3
                if number >= FRAMES:
                    break
    except MediaError as error:
        assert error.reason and str(path.parent) not in str(error)
        assert not any(leak in str(error) for leak in ("Traceback", "object at 0x", "Errno"))
        return error.code
    return "read"


@dataclass
class Told:
    """How a process fared that read files: answers by code, the slowest, what it grew by, its zombies."""

    answers: dict[str, list[str]] = field(default_factory=dict)
    slowest: tuple[float, str] = (0.0, "")
    grew: int = 0
    zombies: int = 0


def read_all(paths: Sequence[Path]) -> Told:
    """Each file, one after the other, as in a service."""
    own, told = psutil.Process(), Told()
    process.starter = Starter()
    keep_nursery()
    before = own.memory_info().rss
    for path in paths:
        began = time.monotonic()
        told.answers.setdefault(read(path), []).append(path.name)
        told.slowest = max(told.slowest, (time.monotonic() - began, path.name))
        told.grew = max(told.grew, own.memory_info().rss - before)
    told.zombies = sum(child.status() == psutil.STATUS_ZOMBIE for child in own.children())
    process.starter.close()
    return told


def test_every_file_of_the_corpus_is_answered_and_costs_the_parent_nothing(tmp_path: Path) -> None:
    # In a process that does nothing else: this one has run other tests, and its memory grows and shrinks by theirs.
    with ProcessPoolExecutor(1, get_context("spawn")) as reader:
        told = reader.submit(read_all, list(corpus(tmp_path))).result()
    counts = {code: len(names) for code, names in told.answers.items()}
    assert sum(counts.values()) >= 200, counts
    assert set(counts) <= {"read", "missing", "unsupported", "too_large", "undecodable"}, told.answers
    assert counts["read"] >= 50 and counts["undecodable"] >= 20 and counts["unsupported"] >= 20, counts
    assert told.slowest[0] < 40, told.slowest
    assert told.grew < 50e6, f"{told.grew / 1e6:.0f} MB more in the parent"
    assert not told.zombies


def test_the_corpus_is_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    names = [[path.name for path in corpus(tmp_path / run)] for run in "ab"]
    assert names[0] == names[1] and len(set(names[0])) == len(names[0])


DAMAGE = {
    "patches": st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6),
    "cut": st.floats(0.05, 1),
    "tail": st.binary(max_size=64),
}
FUZZ = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


def damaged(path: Path, data: bytes, patches: list[tuple[float, bytes]], cut: float, tail: bytes) -> Path:
    """A file with some bytes overwritten, its end cut off, and others behind."""
    changed = bytearray(data)
    for where, patch in patches:
        at = int(where * (len(changed) - len(patch)))
        changed[at : at + len(patch)] = patch
    path.write_bytes(bytes(changed[: int(len(changed) * cut)]) + tail)
    return path


@settings(max_examples=60, **FUZZ)
@given(name=st.sampled_from(sorted(whole())), **DAMAGE)
def test_any_damage_to_a_picture_is_answered(
    tmp_path: Path, name: str, patches: list[tuple[float, bytes]], cut: float, tail: bytes
) -> None:
    path = damaged(tmp_path / name, whole()[name], patches, cut, tail)
    assert read(path) in ("read", "unsupported", "too_large", "undecodable")


@settings(max_examples=60, **FUZZ)
@given(name=st.sampled_from(sorted(VIDEOS)), header=st.booleans(), **DAMAGE)
def test_any_damage_to_a_video_is_answered(
    tmp_path: Path, name: str, header: bool, patches: list[tuple[float, bytes]], cut: float, tail: bytes
) -> None:
    """Of its header alone, where the containers' tables are, or anywhere."""
    data = videos()[name]
    if header:
        patches, cut = [(where * min(512 / len(data), 1), patch) for where, patch in patches], 1.0
    path = damaged(tmp_path / name, data, patches, cut, tail)
    assert read(path) in ("read", "unsupported", "too_large", "undecodable")


@settings(max_examples=40, **FUZZ)
@given(st.binary(max_size=4096))
def test_any_bytes_are_answered(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "anything.mp4"
    path.write_bytes(data)
    assert read(path) in ("read", "unsupported", "too_large", "undecodable")


def test_decoding_is_still_confined_after_all_that() -> None:
    assert process.filters_calls()
