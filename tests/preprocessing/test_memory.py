"""What is told to the collector while models come in."""

import gc
import os
from pathlib import Path

import pytest

from preprocessing.memory import give_back, loading, share_arenas


@pytest.mark.parametrize("fails", [False, True])
def test_while_something_loads_nothing_is_collected_and_afterwards_it_is_again(fails: bool) -> None:
    frozen = gc.get_freeze_count()
    try:
        with loading():
            assert not gc.isenabled()
            made = [[] for _ in range(1000)]
            if fails:
                raise ValueError("damaged")
    except ValueError:
        pass
    assert gc.isenabled() and gc.get_freeze_count() >= frozen + len(made)
    gc.unfreeze()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with loading():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()


def test_arenas_can_be_shared_twice() -> None:
    share_arenas()
    share_arenas()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_what_is_free_goes_back_to_the_system() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    kept = []
    blocks = []
    for _ in range(4000):  # too small for blocks of their own, with something that stays between them
        blocks.append(bytes(20_000))
        kept.append(bytes(600))
    blocks.clear()
    before = resident()
    give_back()
    assert resident() < before - 30e6 and len(kept) == 4000
