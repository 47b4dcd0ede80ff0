"""What a running replica makes of a fleet that is divided anew, and of a division that is refused."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from scheduler.cli.init import init_fleet
from scheduler.domain.ids import NodeId, PoolName
from scheduler.domain.shards import home_tag
from scheduler.engine.engine import Engine
from scheduler.errors import BadInput, LibraryMismatch
from scheduler.settings import Settings
from scheduler.store.layout import chosen_tags, read_tags
from tests.conftest import divide, looking
from tests.integration.engine.test_engine import until
from tests.integration.engine.test_shards import request

pytestmark = pytest.mark.one_shard("they divide it themselves")


@pytest.fixture
def everywhere(client: redis.Redis) -> Iterator[redis.Redis]:
    """A client that reaches all shards."""
    with looking(client) as found:
        yield found.redis


@pytest.fixture
async def alone(redis_url: str) -> AsyncIterator[Engine]:
    engine = Engine(Settings(redis_url=redis_url, refresh_ms=50, reap_ms=50))
    yield engine
    await engine.stop()


async def test_a_replica_of_one_shard_sees_that_the_fleet_was_divided(
    client: redis.Redis, everywhere: redis.Redis, alone: Engine
) -> None:
    everywhere.delete("fleet:{0}")
    await alone.start()
    await until(lambda: alone.obstacle() is None)
    divide(client, 4)
    await until(lambda: "restart" in (alone.obstacle() or ""))
    with pytest.raises(LibraryMismatch, match="4 shards now"):
        await alone.place(request("one"))


async def test_a_division_that_is_refused_changes_no_shard(client: redis.Redis, alone: Engine) -> None:
    tags = divide(client, 8)
    await alone.start()
    await until(lambda: len(alone.shards) == 8 and alone.obstacle() is None)
    node = next(NodeId(f"n{i}") for i in range(1_000) if home_tag(tags, f"n{i}") == "0")
    await alone.first.functions.node_register(node, endpoint="x", slots=1, capabilities=["gpu"])
    with pytest.raises(BadInput, match=r"cannot change while there are nodes: shard \{0\} has some"):
        await init_fleet(alone.settings, 4)
    for shard in alone.shards:
        assert await read_tags(alone._client, shard.key) == tags
    await asyncio.sleep(1.5)
    assert alone.obstacle() is None


async def test_a_new_shard_has_the_pools_before_anybody_is_told_of_it(everywhere: redis.Redis, alone: Engine) -> None:
    await alone.first.functions.pool_put(PoolName("gold"), '{"selector":{"all":true},"tenants":["acme"]}')
    await init_fleet(alone.settings, 4)
    for tag in chosen_tags(4):
        assert everywhere.hkeys(f"fleet:{{{tag}}}:pools") == [b"gold"]


async def test_a_fleet_of_one_shard_that_runs_may_be_told_so_again(everywhere: redis.Redis, alone: Engine) -> None:
    everywhere.delete("fleet:{0}")
    await alone.first.functions.node_register(NodeId("n1"), endpoint="x", slots=1, capabilities=["gpu"])
    assert (await init_fleet(alone.settings, None))[1] == ("0",)
    assert (await init_fleet(alone.settings, 1))[1] == ("0",)
    with pytest.raises(BadInput, match="cannot change while there are nodes"):
        await init_fleet(alone.settings, 2)
    assert chosen_tags(1) == ("0",)
