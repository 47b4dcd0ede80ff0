"""A cluster's client: each call reaches the one primary that serves its shard, in one command."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
import redis

from scheduler.dev.cluster import EmbeddedCluster, ask, bus_port
from scheduler.errors import LibraryMismatch
from scheduler.store.client import Client, connect, connect_blocking
from scheduler.store.library import check_library, check_primaries, load_library, read_library
from scheduler.store.views import Views
from tests.integration.store.conftest import choice_of
from tests.integration.store.test_library import revised

SHARDS = [f"fleet:{{{tag}}}" for tag in range(6)]


def commands(port: int) -> dict[str, int]:
    with redis.Redis(port=port) as plain:
        stats: Any = plain.info("commandstats")
    return {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}


def reset(cluster: EmbeddedCluster) -> None:
    for server in cluster.servers:
        with redis.Redis(port=server.port) as plain:
            plain.config_resetstat()


def serving(cluster: EmbeddedCluster) -> dict[int, int]:
    """How many of the shards each primary serves, by port."""
    ports = [cluster.primary_of(shard).port for shard in SHARDS]
    return {port: ports.count(port) for port in ports}


async def asked(client: Client) -> None:
    for shard in SHARDS:
        await client.execute_command("FCALL", "fleet1_reap", 1, shard, 1)
        await client.execute_command("FCALL_RO", "fleet1_library_read", 1, shard)
        assert await client.xread({f"{shard}:events": "0"}, count=1) in (None, [], {})
        assert (await Views(client, shard).shard())[1:] == (0, 0)
        await client.execute_command("SINTERCARD", 2, f"{shard}:free", f"{shard}:nodes")


async def test_every_call_is_one_command_on_the_primary_that_serves_its_shard(cluster: EmbeddedCluster) -> None:
    shards = serving(cluster)
    assert len(shards) == 3
    async with connect(cluster.url) as client:
        await load_library(client)
        reset(cluster)
        await asked(client)
    for server in cluster.servers:
        seen, share = commands(server.port), shards.get(server.port, 0)
        for name in ("fcall", "fcall_ro", "xread", "sintercard", "hgetall", "zcard", "scard"):
            of_function = {"zcard", "scard"} if share else set()
            assert seen.get(name, 0) == share or name in of_function, (name, seen)
        # no server is asked where the keys of a command are, and none sends one away
        assert not [name for name in seen if name.startswith("command")], seen


async def test_a_blocking_read_waits_at_the_primary_of_its_stream(cluster: EmbeddedCluster) -> None:
    client, blocking = connect(cluster.url), connect_blocking(cluster.url, block_ms=200)
    for shard in SHARDS:
        assert not await blocking.xread({f"{shard}:s": "$"}, block=10)
        await client.execute_command("XADD", f"{shard}:s", "*", "a", "b")
        assert await blocking.xread({f"{shard}:s": "0"}, block=200)
    await client.aclose()
    await blocking.aclose()


async def test_a_command_without_a_key_is_asked_of_the_primary_of_a_shard(cluster: EmbeddedCluster) -> None:
    async with connect(cluster.url) as client:
        assert len(await client.primaries()) == 3
        for shard in SHARDS:
            primary = await client.primary_of(shard)
            assert primary.endswith(f":{cluster.primary_of(shard).port}")
            info = await client.ask(primary, "INFO", "server")
            assert info["tcp_port"] == cluster.primary_of(shard).port
            assert len(await client.ask(primary, "TIME")) == 2
        with pytest.raises(redis.ConnectionError):
            await client.ask("127.0.0.1:1", "TIME")


async def test_the_library_is_loaded_on_every_primary_and_goes_back_on_none(cluster: EmbeddedCluster) -> None:
    servers = [cluster.primary_of(shard) for shard in SHARDS]
    for server in servers:
        ask(server, "FUNCTION", "FLUSH")
    async with connect(cluster.url) as client:
        primaries = await client.primaries()
        assert await load_library(client) == f"fleet1 revision {read_library().revision} loaded on " + ", ".join(
            primaries
        )
        for shard in SHARDS:
            await check_library(client, shard)
        assert await check_primaries(client) == primaries
        # one that lacks it, beside others that have it
        ask(servers[0], "FUNCTION", "FLUSH")
        with pytest.raises(LibraryMismatch):
            await check_library(client, SHARDS[0])
        name = await client.primary_of(SHARDS[0])
        with pytest.raises(LibraryMismatch, match=f"{name} lacks fleet1"):
            await check_primaries(client)
        assert (await load_library(client)).endswith(f"loaded on {name}")
        assert "is there already on" in await load_library(client)
        # one that has a higher revision: none is changed, and it is named
        ask(servers[0], "FUNCTION", "LOAD", "REPLACE", revised(9_000).code)
        ask(servers[1], "FUNCTION", "FLUSH")
        with pytest.raises(LibraryMismatch, match=f"{name} holds revision 9000 .* never goes back"):
            await load_library(client, replace(read_library()))
        assert ask(servers[1], "FUNCTION", "LIST") == []
        await check_library(client, SHARDS[0])
        ask(servers[1], "FUNCTION", "LOAD", revised(9_001).code)
        with pytest.raises(
            LibraryMismatch, match=r"holds ABI 1 revision \d+, this program needs ABI 1 revision 9000"
        ):
            await check_primaries(client, revised(9_000))
        for server in servers:
            ask(server, "FUNCTION", "FLUSH")


async def test_a_primary_that_serves_nothing_yet_gets_the_library_too(kind: str) -> None:
    with (
        EmbeddedCluster(choice_of(kind), primaries=1) as cluster,
        EmbeddedCluster(choice_of(kind), primaries=1) as other,
    ):
        joining = other.servers[0]
        ask(joining, "CLUSTER", "FLUSHSLOTS")
        ask(joining, "CLUSTER", "MEET", "127.0.0.1", cluster.servers[0].port, bus_port(cluster.servers[0]))
        async with connect(cluster.url) as client:
            end = time.monotonic() + 10
            while len(await client.primaries()) < 2:
                assert time.monotonic() < end
                await asyncio.sleep(0.05)
            said = await load_library(client)
            assert all(f"127.0.0.1:{server.port}" in said for server in (joining, cluster.servers[0]))
            assert await check_primaries(client) == await client.primaries()
        assert len(ask(joining, "FUNCTION", "LIST")) == 1
