"""Moving a shard by its keys, and what is left where that fails on the way."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.exceptions import ResponseError

from scheduler.dev.cluster import EmbeddedCluster
from scheduler.domain.ids import NodeId
from scheduler.errors import BadInput, LibraryMismatch, ServerUnavailable
from scheduler.store import resharding
from scheduler.store.client import Client, connect
from scheduler.store.library import load_library
from scheduler.store.moves import Moves
from scheduler.store.resharding import Resharding

SHARD = "fleet:{0}"


async def by_key(*_: object) -> bool:
    """As servers that cannot move a hash slot while they serve it."""
    return False


@pytest.fixture
async def client(cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    monkeypatch.setattr(resharding, "KEYS_MAX", 5)
    monkeypatch.setattr(Resharding, "_migrated_by_server", by_key)
    async with connect(cluster.url, timeout_ms=5_000) as running:
        await load_library(running)
        functions = Moves(running, SHARD)
        for i in range(20):
            await functions.node_register(NodeId(f"n{i}"), endpoint="x", slots=1, capabilities=["gpu"])
        yield running


async def another(client: Client) -> str:
    source = await client.primary_of(SHARD)
    return next(primary for primary in await client.primaries() if primary != source)


async def frozen(client: Client) -> bool:
    return bool(await client.execute_command("HEXISTS", SHARD, "frozen"))


async def test_a_shard_with_its_keys_in_two_places_stays_frozen_until_the_move_is_repeated(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await client.primary_of(SHARD)
    to, ask, asked = await another(client), client.ask, 0

    async def failing(primary: str, *command: Any) -> Any:
        nonlocal asked
        asked += command[0] == "MIGRATE"
        if asked == 3:
            raise ResponseError("IOERR error or timeout writing to target instance")
        return await ask(primary, *command)

    monkeypatch.setattr(client, "ask", failing)
    with pytest.raises(ServerUnavailable, match="stays frozen: repeat this"):
        await Resharding(client, SHARD).move(to)
    assert await frozen(client)
    with pytest.raises(ServerUnavailable, match="is frozen"):
        await Moves(client, SHARD).reap()
    monkeypatch.undo()
    monkeypatch.setattr(Resharding, "_migrated_by_server", by_key)
    with pytest.raises(BadInput, match=f"must be {to} first"):
        await Resharding(client, SHARD).move(source)
    assert (await Resharding(client, SHARD).move(to)).startswith(f"moved from {source} to {to}: ")
    assert await client.primary_of(SHARD) == to
    registered = await client.execute_command("ZRANGE", f"{SHARD}:nodes", 0, -1)
    assert {f"n{i}".encode() for i in range(20)} <= set(registered)
    assert await client.execute_command("EXISTS", *(f"{SHARD}:node:n{i}" for i in range(20))) == 20
    assert not await frozen(client)
    await Moves(client, SHARD).reap()


async def test_a_move_that_fails_before_its_first_key_leaves_the_shard_going(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    to, ask = await another(client), client.ask

    async def failing(primary: str, *command: Any) -> Any:
        if "IMPORTING" in command:
            raise ResponseError("ERR no")
        return await ask(primary, *command)

    monkeypatch.setattr(client, "ask", failing)
    with pytest.raises(ServerUnavailable, match=r"did not move \(ERR no\)$"):
        await Resharding(client, SHARD).move(to)
    await Moves(client, SHARD).reap()


async def test_a_shard_does_not_move_to_a_primary_without_the_library(client: Client) -> None:
    to = await another(client)
    await client.ask(to, "FUNCTION", "FLUSH")
    with pytest.raises(LibraryMismatch, match=f"{to} lacks fleet1"):
        await Resharding(client, SHARD).move(to)
    assert await client.primary_of(SHARD) != to
    await Moves(client, SHARD).reap()


async def test_a_shard_that_is_there_already_is_said_to_be_frozen(client: Client) -> None:
    here = await client.primary_of(SHARD)
    assert await Resharding(client, SHARD).move(here) == "it is there already"
    await Moves(client, SHARD).shard_freeze("freeze")
    assert "fleet shard thaw" in await Resharding(client, SHARD).move(here)
    await Moves(client, SHARD).shard_freeze("thaw")


async def test_a_move_that_failed_before_its_first_key_is_taken_back_by_naming_where_it_is(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, to, ask = await client.primary_of(SHARD), await another(client), client.ask

    async def failing(primary: str, *command: Any) -> Any:
        if "GETKEYSINSLOT" in command:
            raise ResponseError("ERR no")
        return await ask(primary, *command)

    monkeypatch.setattr(client, "ask", failing)
    with pytest.raises(ServerUnavailable, match="stays frozen"):
        await Resharding(client, SHARD).move(to)
    monkeypatch.setattr(client, "ask", ask)
    assert "fleet shard thaw" in await Resharding(client, SHARD).move(here)
    await Moves(client, SHARD).shard_freeze("thaw")
    await Moves(client, SHARD).reap()
    await Moves(client, SHARD).node_register(NodeId("new"), endpoint="x", slots=1, capabilities=["gpu"])
