"""When a replica refuses at the door: by how many placements it decides within half of the deadline."""

import asyncio

import pytest

from scheduler.engine.door import LIMIT_MAX, LIMIT_MIN, Door


def after(door: Door, count: int, came_as: int, took_s: float) -> int:
    for _ in range(count):
        door.saw(came_as, took_s)
    return door.limit


def test_late_placements_lower_the_limit_to_what_the_calls_under_way_can_carry() -> None:
    door = Door(1_000)
    assert after(door, 100, 400, 0.6) < Door(1_000).limit
    assert after(door, 10_000, 400, 0.6) == LIMIT_MIN


def test_placements_in_time_raise_the_limit_to_what_the_queue_holds() -> None:
    door = Door(1_000)
    after(door, 10_000, 400, 0.6)
    assert LIMIT_MIN < after(door, 100, LIMIT_MIN, 0.4) < Door(1_000).limit
    assert after(door, 100_000, LIMIT_MAX, 0.4) == LIMIT_MAX


def test_quick_placements_of_an_idle_replica_say_nothing_of_how_many_fit() -> None:
    door = Door(1_000)
    assert after(door, 10_000, 10, 0.001) == Door(1_000).limit


def test_what_is_late_goes_by_the_deadline() -> None:
    assert after(Door(4_000), 100, 1_500, 0.6) > Door(4_000).limit
    assert after(Door(1_000), 100, 1_500, 0.6) < Door(1_000).limit


async def test_it_is_shut_while_as_many_as_the_limit_are_under_way() -> None:
    door, decided = Door(10), asyncio.Event()
    placements = []
    for _ in range(LIMIT_MIN):
        assert not door.shut
        placements.append(asyncio.create_task(door.passed(decided.wait())))
        await asyncio.sleep(0)
    assert door.shut
    decided.set()
    assert await asyncio.gather(*placements) == [True] * LIMIT_MIN
    assert not door.shut


async def test_a_placement_that_fails_has_left() -> None:
    async def failing() -> None:
        raise ZeroDivisionError

    door = Door(1_000)
    with pytest.raises(ZeroDivisionError):
        await door.passed(failing())
    assert door.under_way == 0
