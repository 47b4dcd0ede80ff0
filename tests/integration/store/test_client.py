import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from scheduler.domain.ids import JobId
from scheduler.store.client import Client, connect
from scheduler.store.views import Views

ROUNDS = 300


async def _command(client: Client) -> Any:
    return await client.execute_command("GET", "fleet:{0}:none")


async def _pipeline(client: Client) -> Any:
    return await Views(client, "fleet:{0}").job(JobId("j1"))


@pytest.mark.parametrize("ask", [_command, _pipeline])
async def test_a_task_that_asks_in_a_loop_ends_when_it_is_cancelled_at_any_moment(
    redis_url: str, ask: Callable[[Client], Awaitable[Any]]
) -> None:
    client = connect(redis_url)

    async def for_ever() -> None:
        while True:
            await ask(client)

    for moment in range(ROUNDS):
        task = asyncio.create_task(for_ever())
        for _ in range(moment % 60):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=2)
        task.cancel()
        assert done, f"still asking after a cancel {moment % 60} steps in"
        assert task.cancelled()
    await client.aclose()


async def test_a_cancelled_call_leaves_a_client_that_answers_the_next_one_rightly(redis_url: str) -> None:
    client = connect(redis_url, connections=1)
    primary = await client.primary_of("fleet:{0}")

    async def echo(text: str) -> Any:
        return await client.ask(primary, "ECHO", text)

    for moment in range(ROUNDS):
        task = asyncio.create_task(echo(f"cancelled {moment}"))
        for _ in range(moment % 20):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await echo(f"next {moment}") == f"next {moment}".encode()
    await client.aclose()
