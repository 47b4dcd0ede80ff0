"""The snapshot equals Redis whatever happened in between."""

from collections.abc import AsyncIterator

import pytest
import redis

from scheduler.domain.demand import demand_from_tokens
from scheduler.domain.ids import JobId, NodeId, Tenant
from scheduler.domain.job import JobRequest
from scheduler.domain.reason import RefusalClass
from scheduler.engine.dispatch import Refusal
from scheduler.engine.engine import Engine
from scheduler.settings import Settings

P = "fleet:{0}"


@pytest.fixture
async def engine(redis_url: str) -> AsyncIterator[Engine]:
    """Connected, but following Redis only when told to."""
    idle = Engine(Settings(redis_url=redis_url))
    yield idle
    await idle.stop()


async def register(engine: Engine, *names: str) -> None:
    for name in names:
        await engine.functions.node_register(
            NodeId(name), endpoint="http://n", slots=2, capabilities=["gpu"], ttl_ms=3_600_000
        )


async def test_a_fill_of_many_pages_ends_though_tombstones_were_reaped(engine: Engine, client: redis.Redis) -> None:
    names = [f"n{i:03}" for i in range(450)]
    await register(engine, *names, "gone")
    await engine.functions.node_remove(NodeId("gone"), int(client.hget(f"{P}:node:gone", "incarnation") or 0))
    client.zadd(f"{P}:removed", {"gone": 1})
    await engine.functions.reap()
    assert int(client.hget(P, "floor") or 0) > 200
    await engine.mirror.refresh()
    assert engine.mirror.snapshot.ids == names


async def test_a_cursor_behind_the_floor_fills_anew(engine: Engine, client: redis.Redis) -> None:
    await register(engine, "n1", "gone")
    await engine.mirror.refresh()
    await engine.functions.node_remove(NodeId("gone"), int(client.hget(f"{P}:node:gone", "incarnation") or 0))
    client.zadd(f"{P}:removed", {"gone": 1})
    await engine.functions.reap()
    await engine.mirror.refresh()
    assert engine.mirror.snapshot.ids == ["n1"]


async def test_a_node_that_should_be_known_and_is_not_leads_to_a_fill(engine: Engine, client: redis.Redis) -> None:
    await register(engine, "n1")
    await engine.mirror.refresh()
    version = engine.mirror.snapshot.version
    await register(engine, "n2")
    # as after a failover that forgot: the structure of n2 looks older than what this replica holds as complete
    client.hset(f"{P}:node:n2", "structure", version)
    await engine.functions.node_mark(NodeId("n2"), "cordon")
    await engine.mirror.refresh()
    assert engine.mirror.snapshot.ids == ["n1", "n2"]


async def test_nothing_is_impossible_right_after_flushall(engine: Engine, client: redis.Redis) -> None:
    await register(engine, "n1")
    await engine.mirror.refresh()
    client.flushall()
    demand = demand_from_tokens(["gpu"], Tenant("default"))
    verdict = await engine.place(JobRequest(JobId("0.a"), "-", demand))
    assert isinstance(verdict, Refusal)
    assert verdict.refusal is RefusalClass.UNAVAILABLE
