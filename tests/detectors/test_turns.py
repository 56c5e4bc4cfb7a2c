"""Turns: so many at once, and one that hangs holds nobody up for long."""

import asyncio

import pytest

from detectors.turns import Turns


async def most_at_once(turns: Turns, count: int) -> int:
    """Of `count` that want a turn, how many had one at the same moment."""
    now = most = 0

    async def one() -> None:
        nonlocal now, most
        async with turns.turn():
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.01)
            now -= 1

    await asyncio.gather(*(one() for _ in range(count)))
    return most


def test_no_more_work_at_once_than_there_are_turns() -> None:
    async def work() -> int:
        return await most_at_once(Turns(2), 7)

    assert asyncio.run(work()) == 2


def test_all_turns_taken_by_what_hangs_are_handed_on() -> None:
    async def work() -> str:
        turns = Turns(2, patience_s=0.05)

        async def hangs() -> None:
            async with turns.turn():
                await asyncio.Event().wait()

        hanging = [asyncio.create_task(hangs()) for _ in range(2)]
        await asyncio.sleep(0)
        async with turns.turn():
            said = "in turn"
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        return said

    assert asyncio.run(asyncio.wait_for(work(), 5)) == "in turn"


@pytest.mark.parametrize("ends", ["raises", "hung"])
def test_a_turn_is_given_back_once(ends: str) -> None:
    async def work() -> int:
        turns = Turns(1, patience_s=0.05)
        try:
            async with turns.turn():
                if ends == "raises":
                    raise ValueError("no")
                await asyncio.sleep(0.1)
        except ValueError:
            pass
        return await most_at_once(turns, 3)

    assert asyncio.run(work()) == 1
