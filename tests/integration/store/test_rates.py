"""Counts of requests: shared by all who ask, over any connection, and never worth a wait."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from scheduler.dev.server import EmbeddedServer
from scheduler.domain.ids import Tenant
from scheduler.store.client import Client, connect
from scheduler.store.rates import ASIDE_S, PATIENCE_S, Rates

P = "fleet:{0}"
ACME = Tenant("acme")


async def connected(url: str) -> Client:
    """A client that has looked around, as a replica's has when it is ready."""
    client = connect(url)
    await client.execute_command("GET", f"{P}:none")
    return client


async def test_two_who_count_share_the_limit(redis_url: str) -> None:
    clients = [await connected(redis_url) for _ in range(2)]
    try:
        one, other = (Rates(client, P) for client in clients)
        taken = [await rates.take(ACME, 10, 2) for rates in (one, other) for _ in range(3)]
        assert taken == [True] * 5 + [False]
        assert await one.take(Tenant("other"), 1)
        assert not await one.take(ACME, 5, 6), "more than there is in any second"
    finally:
        for client in clients:
            await client.aclose()


async def test_a_second_later_there_is_room_again(redis_url: str) -> None:
    client = await connected(redis_url)
    try:
        rates, begun, taken = Rates(client, P), time.monotonic(), 0
        while (gone := time.monotonic() - begun) < 3:
            taken += await rates.take(ACME, 20)
        # never twenty within any second, and nearly so in each
        assert 20 + 20 * (gone - 1) * 0.6 <= taken <= 20 * (gone + 1)
    finally:
        await client.aclose()


@pytest.mark.parametrize("hung", [True, False])
async def test_without_an_answer_everybody_passes_and_only_the_first_waits(
    fresh_server: Callable[..., EmbeddedServer], *, hung: bool
) -> None:
    server = fresh_server()
    client = await connected(server.url)
    rates = Rates(client, P)
    try:
        assert await rates.take(ACME, 1)
        assert not await rates.take(ACME, 1)
        if hung:
            os.kill(server.pid, signal.SIGSTOP)
        else:
            server.kill()
        begun = time.monotonic()
        assert await rates.take(ACME, 1)
        assert time.monotonic() - begun < PATIENCE_S + 0.2
        begun = time.monotonic()
        assert all([await rates.take(ACME, 1) for _ in range(1_000)])
        assert time.monotonic() - begun < ASIDE_S / 2, "nobody is asked"
        if hung:
            os.kill(server.pid, signal.SIGCONT)
            end = time.monotonic() + 10
            while await rates.take(ACME, 1):
                assert time.monotonic() < end, "it counts again"
    finally:
        if hung:
            os.kill(server.pid, signal.SIGCONT)
        await client.aclose()
