"""The first shard's pools in all shards, whatever becomes of one of them."""

import json
from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from scheduler.domain.ids import PoolName
from scheduler.engine.engine import Engine
from scheduler.errors import ServerUnavailable
from scheduler.settings import Settings
from tests.conftest import divide, looking
from tests.integration.engine.test_engine import until

GOLD = PoolName("gold")


def pool(*tenants: str) -> str:
    return json.dumps({"selector": {"all": True}, "tenants": tenants})


pytestmark = pytest.mark.one_shard("they divide it themselves")


@pytest.fixture
def everywhere(client: redis.Redis) -> Iterator[redis.Redis]:
    """A client that reaches all shards."""
    with looking(client) as found:
        yield found.redis


@pytest.fixture
async def engine(client: redis.Redis, redis_url: str) -> AsyncIterator[Engine]:
    divide(client, 3)
    running = Engine(Settings(redis_url=redis_url, refresh_ms=50, reap_ms=50))
    await running.start()
    await until(lambda: len(running.shards) == 3 and running.obstacle() is None)
    yield running
    await running.stop()


def tenants(everywhere: redis.Redis, engine: Engine) -> list[list[str]]:
    """Of the pool gold, in each shard."""
    texts = [everywhere.hget(f"{shard.key}:pools", GOLD) for shard in engine.shards]
    return [json.loads(text)["tenants"] if text else [] for text in texts]


async def test_as_many_and_as_long_pools_as_the_first_shard_takes_reach_the_others(
    everywhere: redis.Redis, engine: Engine
) -> None:
    long = [f"{i:03}{'x' * 61}" for i in range(100)]
    for i in range(199):
        await engine.first.functions.pool_put(PoolName(f"p{i}"), pool(*long))
    await engine.parts.pools.put(GOLD, pool("acme"))
    assert tenants(everywhere, engine) == [["acme"]] * 3


async def test_a_first_shard_that_forgot_the_last_change_takes_it_from_the_others(
    everywhere: redis.Redis, engine: Engine
) -> None:
    await engine.parts.pools.put(GOLD, pool("acme", "late"))
    first = engine.first.key
    before = {key: everywhere.dump(key) for key in (first, f"{first}:pools")}
    await engine.parts.pools.put(GOLD, pool("acme"))
    for key, value in before.items():
        everywhere.restore(key, 0, value, replace=True)  # type: ignore[arg-type]
    assert tenants(everywhere, engine)[0] == ["acme", "late"]
    await until(lambda: tenants(everywhere, engine) == [["acme"]] * 3)


@pytest.mark.parametrize("emptied", [0, 1])
async def test_a_shard_that_was_emptied_gets_the_pools_of_the_others(
    everywhere: redis.Redis, engine: Engine, emptied: int
) -> None:
    await engine.parts.pools.put(GOLD, pool("acme"))
    key = engine.shards[emptied].key
    everywhere.delete(key)
    everywhere.delete(f"{key}:pools")
    await until(lambda: tenants(everywhere, engine) == [["acme"]] * 3)


async def test_a_change_that_one_shard_does_not_take_is_said_and_reaches_it_later(
    everywhere: redis.Redis, engine: Engine
) -> None:
    await engine.parts.pools.put(GOLD, pool("acme", "late"))
    frozen = engine.shards[1]
    await frozen.functions.shard_freeze("freeze")
    with pytest.raises(ServerUnavailable, match="it is stored, but a shard that does not answer"):
        await engine.parts.pools.put(GOLD, pool("acme"))
    assert tenants(everywhere, engine) == [["acme"], ["acme", "late"], ["acme"]]
    await frozen.functions.shard_freeze("thaw")
    await until(lambda: tenants(everywhere, engine) == [["acme"]] * 3)
