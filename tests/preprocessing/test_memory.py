"""What is told to the collector while models come in."""

import gc

import pytest

from preprocessing.memory import loading, share_arenas


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
