"""The janitor: a turn that found all it may take of any kind is followed by another at once."""

import asyncio
from typing import cast

import pytest

from scheduler.engine.reaping import TURN, reap_for_ever
from scheduler.store.functions import Functions, Reaped


class Shard:
    """Answers these turns and then nothing to reap, in the place of Functions."""

    def __init__(self, *turns: Reaped) -> None:
        self.turns = list(turns)
        self.asked = 0

    async def reap(self, limit: int) -> Reaped:
        assert limit == TURN
        self.asked += 1
        return self.turns.pop(0) if self.turns else Reaped(0, 0, 0)


@pytest.mark.parametrize("full", [Reaped(TURN, 0, 0), Reaped(0, TURN, 0), Reaped(0, 0, TURN)])
async def test_a_full_turn_is_followed_at_once(full: Reaped) -> None:
    shard = Shard(full, full)
    task = asyncio.create_task(reap_for_ever(cast("Functions", shard), 60_000))
    await asyncio.sleep(0.05)
    task.cancel()
    assert shard.asked == 3
