"""When a replica refuses at the door: by how many placements it can decide within a quarter of the deadline."""

from contextlib import ExitStack

import pytest

from scheduler.engine.door import LIMIT_MIN, Door


def taught(each_s: float, deadline_ms: int = 1_000) -> Door:
    """A door that has seen many placements which cost so much each."""
    door = Door(deadline_ms)
    for _ in range(1_000):
        door.saw(100, each_s * 100)
    return door


def test_the_limit_is_what_fits_into_a_quarter_of_the_deadline() -> None:
    assert 490 <= taught(0.0005).limit <= 500
    assert 120 <= taught(0.002).limit <= 130
    assert 245 <= taught(0.002, deadline_ms=2_000).limit <= 255


def test_what_the_calls_under_way_can_carry_is_always_let_in() -> None:
    door = taught(5.0)
    with ExitStack() as placements:
        for _ in range(LIMIT_MIN):
            assert not door.shut
            placements.enter_context(door.passed())
        assert door.shut
    assert not door.shut


def test_a_placement_that_fails_has_left() -> None:
    door = Door(1_000)
    with pytest.raises(ZeroDivisionError), door.passed():
        door.saw(0, 1.0)
    assert door.under_way == 0


def test_a_slow_placement_alone_says_nothing_of_how_many_fit() -> None:
    door = Door(1_000)
    before = door.limit
    for _ in range(100):
        with door.passed():
            pass
    assert door.limit == before


def test_the_limit_grows_again_when_placements_become_quick() -> None:
    door = taught(0.1)
    assert door.limit == LIMIT_MIN
    for _ in range(1_000):
        door.saw(LIMIT_MIN, 0.001 * LIMIT_MIN)
    assert door.limit > 200
