import asyncio
import contextlib
from typing import Any

import pytest
import redis

from scheduler.store.guarding import heeding_cancel


async def test_a_write_to_a_connection_that_was_just_closed_is_a_lost_connection() -> None:
    closed: Any = None
    with pytest.raises(redis.ConnectionError, match="closed when another call failed"), heeding_cancel():
        closed.writelines([b"x"])


async def test_a_mistake_of_ours_stays_one() -> None:
    mistaken: Any = object()
    with pytest.raises(AttributeError, match="writelines"), heeding_cancel():
        mistaken.writelines([b"x"])


async def test_a_cancel_that_was_swallowed_is_told_at_the_end() -> None:
    async def swallowing() -> None:
        with heeding_cancel(), contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(10)

    task = asyncio.create_task(swallowing())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
