"""A replica has a bounded number of placements under way, and a smaller one in a flood of requests."""

import asyncio
import time

import pytest

from scheduler.engine.door import BURST_MAX, FLOOD_MAX, Door

LATE_S = 0.06


def most(door: Door) -> int:
    """With how many under way it is shut."""

    def is_shut(under_way: int) -> bool:
        door.under_way = under_way
        return door.shut

    count = next(count for count in (FLOOD_MAX, BURST_MAX) if is_shut(count))
    assert not is_shut(count - 1)
    return count


def flooded() -> Door:
    door = Door()
    door.refused += 1
    door.saw(LATE_S)
    return door


def test_a_burst_is_let_in_and_a_late_loop_alone_is_no_flood() -> None:
    door = Door()
    assert most(door) == BURST_MAX
    door.saw(LATE_S)
    assert most(door) == BURST_MAX
    door.refused += 1
    door.saw(0.01)
    assert most(door) == BURST_MAX


def test_refusals_while_the_loop_is_late_are_a_flood() -> None:
    assert most(flooded()) == FLOOD_MAX


def test_a_flood_is_over_after_a_second_without_a_refusal() -> None:
    door = flooded()
    for turn in range(19):
        door.saw(0.0)
        assert most(door) == FLOOD_MAX, turn
    door.refused += 1
    for turn in range(20):
        door.saw(0.0)
        assert most(door) == FLOOD_MAX, turn
    door.saw(0.0)
    assert most(door) == BURST_MAX


def test_a_steady_load_that_is_refused_for_nothing_but_the_bound_is_let_in_again() -> None:
    door = flooded()
    for turn in range(199):
        door.refused += 1
        door.saw(0.01)
        assert most(door) == FLOOD_MAX, turn
    door.refused += 1
    door.saw(0.01)
    assert most(door) == BURST_MAX


async def test_a_loop_that_is_held_up_while_requests_are_refused_is_noticed() -> None:
    door = Door()
    watching = asyncio.create_task(door.watch())
    await asyncio.sleep(0)
    door.refused += 1
    time.sleep(0.2)  # noqa: ASYNC251 - this is the loop being held up
    door.under_way = FLOOD_MAX
    async with asyncio.timeout(5):
        while not door.shut:
            await asyncio.sleep(0)
    watching.cancel()


async def test_placements_are_counted_while_they_are_under_way() -> None:
    async def failing() -> None:
        raise ZeroDivisionError

    door, decided = Door(), asyncio.Event()
    placements = [asyncio.create_task(door.passed(decided.wait())) for _ in range(3)]
    await asyncio.sleep(0)
    assert door.under_way == 3
    decided.set()
    assert await asyncio.gather(*placements) == [True] * 3
    with pytest.raises(ZeroDivisionError):
        await door.passed(failing())
    assert door.under_way == 0
