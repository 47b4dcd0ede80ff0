"""The snapshot equals Redis whatever happened in between."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import redis

from scheduler.dev.server import EmbeddedServer
from scheduler.domain.demand import demand_from_tokens
from scheduler.domain.ids import JobId, NodeId, Tenant
from scheduler.domain.job import JobRequest
from scheduler.domain.reason import RefusalClass
from scheduler.engine.dispatch import Refusal
from scheduler.engine.engine import Engine
from scheduler.engine.mirror import Mirror
from scheduler.settings import Settings
from scheduler.store.client import connect
from scheduler.store.codec import MirrorPage
from scheduler.store.functions import Functions
from scheduler.store.library import load_library, read_library
from tests.connections import cut

P = "fleet:{0}"
pytestmark = pytest.mark.one_shard("is about the snapshot of one shard")


@pytest.fixture
async def engine(redis_url: str) -> AsyncIterator[Engine]:
    """Connected, but following Redis only when told to."""
    idle = Engine(Settings(redis_url=redis_url))
    yield idle
    await idle.stop()


async def register(engine: Engine, *names: str) -> None:
    for name in names:
        await engine.first.functions.node_register(
            NodeId(name), endpoint="http://n", slots=2, capabilities=["gpu"], ttl_ms=3_600_000
        )


async def test_pools_are_known_where_no_node_ever_was(engine: Engine, client: redis.Redis) -> None:
    await engine.first.mirror.refresh()
    assert set(engine.first.mirror.snapshot.pools) == {"default"}
    client.execute_command("FCALL", "fleet1_pool_put", 1, P, "gold", '{"selector":{"all":true}}')
    fresh = Mirror(engine.first.functions, 200)
    for mirror in (engine.first.mirror, fresh):
        await mirror.refresh()
        assert set(mirror.snapshot.pools) == {"gold"}


async def test_a_fill_of_many_pages_ends_though_tombstones_were_reaped(engine: Engine, client: redis.Redis) -> None:
    names = [f"n{i:03}" for i in range(450)]
    await register(engine, *names, "gone")
    await engine.first.functions.node_remove(NodeId("gone"), int(client.hget(f"{P}:node:gone", "incarnation") or 0))
    client.zadd(f"{P}:removed", {"gone": 1})
    await engine.first.functions.reap()
    assert int(client.hget(P, "floor") or 0) > 200
    await engine.first.mirror.refresh()
    assert engine.first.mirror.snapshot.ids == names


async def test_a_cursor_behind_the_floor_fills_anew(engine: Engine, client: redis.Redis) -> None:
    await register(engine, "n1", "gone")
    await engine.first.mirror.refresh()
    await engine.first.functions.node_remove(NodeId("gone"), int(client.hget(f"{P}:node:gone", "incarnation") or 0))
    client.zadd(f"{P}:removed", {"gone": 1})
    await engine.first.functions.reap()
    await engine.first.mirror.refresh()
    assert engine.first.mirror.snapshot.ids == ["n1"]


async def test_a_refresh_sees_what_happened_after_the_one_under_way_had_read(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(engine, "n1")
    functions, mirror = engine.first.functions, engine.first.mirror
    await mirror.refresh()
    read, has_read, go = functions.mirror_read, asyncio.Event(), asyncio.Event()

    async def held(cursor: int, complete: int, config: int | None, tenants: int, *, truths: bool) -> MirrorPage:
        page = await read(cursor, complete, config, tenants, truths=truths)
        has_read.set()
        await go.wait()
        return page

    monkeypatch.setattr(functions, "mirror_read", held)
    under_way = asyncio.create_task(mirror.refresh())
    await has_read.wait()
    await register(engine, "n2")
    later = asyncio.create_task(mirror.refresh())
    await asyncio.sleep(0)
    go.set()
    await later
    assert mirror.snapshot.ids == ["n1", "n2"]
    await under_way


async def test_a_node_that_should_be_known_and_is_not_leads_to_a_fill(engine: Engine, client: redis.Redis) -> None:
    await register(engine, "n1")
    await engine.first.mirror.refresh()
    version = engine.first.mirror.snapshot.version
    await register(engine, "n2")
    # as after a failover that forgot: the structure of n2 looks older than what this replica holds as complete
    client.hset(f"{P}:node:n2", "structure", version)
    await engine.first.functions.node_mark(NodeId("n2"), "cordon")
    await engine.first.mirror.refresh()
    assert engine.first.mirror.snapshot.ids == ["n1", "n2"]


async def test_nothing_is_impossible_right_after_flushall(engine: Engine, client: redis.Redis) -> None:
    await register(engine, "n1")
    await engine.first.mirror.refresh()
    client.flushall()
    demand = demand_from_tokens(["gpu"], Tenant("default"))
    verdict = await engine.place(JobRequest(JobId("0.a"), "-", demand))
    assert isinstance(verdict, Refusal)
    assert verdict.refusal is RefusalClass.UNAVAILABLE
    assert verdict.early, "it is said so: no node offers it, but that is not final"


async def test_a_restart_from_an_older_copy_that_overtook_the_version_leads_to_a_fill(
    fresh_server: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    server = fresh_server("--appendonly", "yes", "--appendfsync", "always")
    engine = Engine(Settings(redis_url=server.url))
    try:
        await load_library(engine.first.functions.client, engine.library)
        await register(engine, "kept", "moved")
        shutil.copytree(server.folder, tmp_path / "copy")
        await engine.first.functions.node_mark(NodeId("moved"), "cordon")
        await register(engine, "forgotten")
        await engine.first.mirror.refresh()
        version = engine.first.mirror.snapshot.version
        server.kill()
        shutil.rmtree(server.folder)
        shutil.copytree(tmp_path / "copy", server.folder)
        await asyncio.to_thread(server.start)
        await cut(engine.first.functions.client)
        await register(engine, *(f"new{i}" for i in range(8)))
        with redis.Redis(port=server.port) as client:
            assert int(client.hget(P, "version") or 0) > version
            await engine.first.mirror.refresh()
            snapshot = engine.first.mirror.snapshot
            assert snapshot.ids == ["kept", "moved", *(f"new{i}" for i in range(8))]
            assert snapshot.node(snapshot.positions[NodeId("moved")]).state == "ready"
    finally:
        await engine.stop()


async def test_a_promoted_replica_is_another_history(fresh_server: Callable[..., EmbeddedServer]) -> None:
    primary, replica = fresh_server(), fresh_server()
    with redis.Redis(port=primary.port) as first, redis.Redis(port=replica.port) as second:
        first.execute_command("FUNCTION", "LOAD", read_library().code)
        first.fcall("fleet1_reap", 1, P)
        second.replicaof("127.0.0.1", primary.port)
        functions = [Functions(connect(server.url), P) for server in (primary, replica)]
        try:
            async with asyncio.timeout(20):
                while second.info("replication")["master_link_status"] != "up":
                    await asyncio.sleep(0.02)
            before, copied = [(await each.mirror_read(0, 0, None, 0)).history for each in functions]
            assert before == copied
            second.replicaof("NO", "ONE")
            kept, promoted = [(await each.mirror_read(0, 0, None, 0)).history for each in functions]
            assert kept == before != promoted
        finally:
            for each in functions:
                await each.client.aclose()
