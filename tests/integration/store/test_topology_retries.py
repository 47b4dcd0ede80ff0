"""What a client does when a reply is lost, a node is silent, a hash slot has moved, or all connections are taken."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from scheduler.dev.cluster import EmbeddedCluster, ask, wait_until
from scheduler.dev.server import EmbeddedServer
from scheduler.store.client import connect
from tests.integration.agent.lossy import relay_to
from tests.integration.store.conftest import KINDS, choice_of

KEY = "fleet:{0}:n"
Lost = (redis.ConnectionError, redis.TimeoutError)


@pytest.fixture(scope="module", params=KINDS)
def bare(request: pytest.FixtureRequest) -> Iterator[EmbeddedCluster]:
    """Three primaries without replicas: nobody takes over from one that is silent."""
    with EmbeddedCluster(choice_of(request.param), node_timeout_ms=60_000) as running:
        yield running


@contextmanager
def silent(server: EmbeddedServer) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@contextmanager
def announced(cluster: EmbeddedCluster, server: EmbeddedServer, port: int) -> Iterator[None]:
    """Meanwhile every node tells clients to find this one at that port."""

    def told(at: int) -> bool:
        return all(b"127.0.0.1:%d@" % at in ask(node, "CLUSTER", "NODES") for node in cluster.servers)

    ask(server, "CONFIG", "SET", "cluster-announce-port", port)
    try:
        wait_until(lambda: told(port), "the port is known", 10)
        yield
    finally:
        ask(server, "CONFIG", "SET", "cluster-announce-port", 0)
        wait_until(lambda: told(server.port), "the port is known", 10)


def elsewhere(cluster: EmbeddedCluster, key: str = KEY) -> str:
    """A key that another primary serves."""
    served = cluster.primary_of(key)
    return next(k for k in (f"fleet:{{{i}}}:n" for i in range(100)) if cluster.primary_of(k) is not served)


async def test_a_command_whose_reply_is_lost_is_not_sent_again(bare: EmbeddedCluster) -> None:
    server = bare.primary_of(KEY)
    async with relay_to(server.port) as relay:
        with announced(bare, server, int(relay.url.rpartition(":")[2])):
            client = connect(relay.url.replace("redis://", "redis+cluster://"))
            ask(server, "SET", KEY, 0)
            assert await client.execute_command("INCR", KEY) == 1
            relay.lose, relay.times = b":2\r\n", 1
            with pytest.raises(Lost):
                await client.execute_command("INCR", KEY)
            assert relay.times == 0
            assert int(ask(server, "GET", KEY)) == 2
            assert await client.execute_command("INCR", KEY) == 3
            # the same of a pipeline
            relay.lose, relay.times = b":4\r\n", 1
            async with client.pipeline(transaction=False) as pipe:
                pipe.execute_command("INCR", KEY)
                with pytest.raises(Lost):
                    await pipe.execute()
            assert relay.times == 0
            assert int(ask(server, "GET", KEY)) == 4
            await client.aclose()


async def test_a_command_that_a_silent_node_takes_late_runs_once(bare: EmbeddedCluster) -> None:
    server, client = bare.primary_of(KEY), connect(bare.url, timeout_ms=1_500)
    ask(server, "SET", KEY, 0)
    assert await client.execute_command("INCR", KEY) == 1
    with silent(server):
        began = time.monotonic()
        with pytest.raises(redis.TimeoutError):
            await client.execute_command("INCR", KEY)
        assert time.monotonic() - began < 5
    assert await client.execute_command("INCR", KEY) == 3
    await client.aclose()


async def test_a_hash_slot_that_nobody_serves_costs_the_others_nothing_and_comes_back(bare: EmbeddedCluster) -> None:
    slot, server = key_slot(KEY.encode()), bare.primary_of(KEY)
    client, other = connect(bare.url), elsewhere(bare)
    for node in bare.servers:
        ask(node, "CLUSTER", "DELSLOTS", slot)
    with pytest.raises(redis.ConnectionError, match=f"no node of the cluster serves the hash slot {slot}"):
        await client.execute_command("GET", KEY)
    with pytest.raises(redis.ConnectionError, match="no node of the cluster serves"):
        await client.primary_of(KEY)
    assert await client.execute_command("INCR", other) >= 1
    ask(server, "CLUSTER", "ADDSLOTS", slot)
    await asyncio.to_thread(wait_until, lambda: bare.primary_of(KEY) is server, "it is served", 20)
    end = time.monotonic() + 10
    while True:
        try:
            await client.execute_command("INCR", KEY)
            break
        except redis.ConnectionError:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)
    await client.aclose()


async def test_calls_that_hang_at_one_primary_leave_room_for_the_others(bare: EmbeddedCluster) -> None:
    client, other = connect(bare.url, connections=4, timeout_ms=3_000), elsewhere(bare)
    await client.execute_command("GET", other)
    with silent(bare.primary_of(KEY)):
        hanging = [asyncio.create_task(client.execute_command("GET", KEY)) for _ in range(20)]
        await asyncio.sleep(0.1)
        await asyncio.gather(*(client.execute_command("INCR", other) for _ in range(40)))
        assert not any(task.done() for task in hanging)
        answers = await asyncio.wait_for(asyncio.gather(*hanging, return_exceptions=True), 15)
        assert all(isinstance(answer, Lost) for answer in answers)
        # the topology is asked of another node than the silent one, which would take three seconds
        began = time.monotonic()
        await client.execute_command("INCR", other)
        assert time.monotonic() - began < 2.5
    await client.aclose()


async def test_callers_wait_for_a_free_connection_and_their_number_is_bounded(bare: EmbeddedCluster) -> None:
    server, client = bare.primary_of(KEY), connect(bare.url, connections=3, timeout_ms=10_000)
    await client.execute_command("GET", KEY)

    def connected() -> int:
        return len(ask(server, "CLIENT", "LIST", "TYPE", "normal").splitlines())

    before, held = connected(), 0
    reading: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(client.xread({f"{KEY}:{i % 2}": "$"}, block=50)) for i in range(24)
    ]
    while not all(task.done() for task in reading):
        held = max(held, connected() - before)
        await asyncio.sleep(0.01)
    await asyncio.gather(*reading)
    # one was there before
    assert held == 2
    await client.aclose()


async def test_who_gets_no_connection_in_time_is_told_so(bare: EmbeddedCluster) -> None:
    client = connect(bare.url, connections=1, timeout_ms=300)
    await client.execute_command("GET", KEY)
    with silent(bare.primary_of(KEY)):
        holding = asyncio.create_task(client.execute_command("GET", KEY))
        await asyncio.sleep(0.05)
        # it waits as long as the one before it, and a little longer than that
        later = [asyncio.create_task(client.execute_command("GET", KEY)) for _ in range(3)]
        answers = await asyncio.gather(holding, *later, return_exceptions=True)
    assert isinstance(answers[0], redis.TimeoutError)
    assert "No connection available." in map(str, answers[1:])
    assert await client.execute_command("GET", KEY + "y") is None
    await client.aclose()


async def test_a_call_follows_a_hash_slot_that_has_moved_or_is_moving(bare: EmbeddedCluster) -> None:
    key = "fleet:{moved}:n"
    slot, source = key_slot(key.encode()), bare.primary_of(key)
    target = next(server for server in bare.servers if server is not source)
    names = {server: ask(server, "CLUSTER", "MYID").decode() for server in (source, target)}
    client = connect(bare.url)
    assert await client.execute_command("INCR", key) == 1
    ask(source, "DEL", key)
    ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
    ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
    # ASK: the key is not at the source, so it is made at the target
    assert await client.execute_command("INCR", key) == 1
    for server in (target, source, *(s for s in bare.servers if s not in names)):
        ask(server, "CLUSTER", "SETSLOT", slot, "NODE", names[target])
    # MOVED
    assert await client.execute_command("INCR", key) == 2
    async with client.pipeline(transaction=False) as pipe:
        pipe.execute_command("INCR", key)
        assert await pipe.execute() == [3]
    assert int(ask(target, "GET", key)) == 3
    await client.aclose()
