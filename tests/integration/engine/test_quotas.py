"""Quotas over eight shards: no shard gives more than its part, and all of it can be had."""

import asyncio
import json
from collections import Counter
from typing import cast

import msgspec
import redis
from redis.cluster import RedisCluster

from scheduler.domain.demand import demand_from_tokens
from scheduler.domain.ids import Tenant
from scheduler.domain.reason import RefusalClass
from scheduler.domain.tenants import share_of
from scheduler.engine.dispatch import Placement, Refusal
from scheduler.engine.engine import Engine
from scheduler.store.codec import Crowded, Waiting
from tests.integration.engine import test_shards
from tests.integration.engine.test_engine import until
from tests.integration.engine.test_shards import TAGS, Start, nodes_in, request

shards, start = test_shards.shards, test_shards.start
ACME = Tenant("acme")
DEMAND = demand_from_tokens(["gpu"], ACME)


async def limited(start: Start, **quota: int) -> Engine:
    """A fleet with two nodes in each shard and quotas for acme."""
    engine = await start()
    for shard in engine.shards:
        for node in nodes_in(engine, shard, 2):
            await shard.functions.node_register(
                node, endpoint="http://n", slots=10, capabilities=["gpu"], ttl_ms=600_000
            )
    await engine.parts.pools.put_tenant(ACME, json.dumps(quota))
    await engine.parts.fleet.refresh()
    return engine


def leases(client: redis.Redis) -> dict[str, int]:
    return {tag: client.zcard(f"fleet:{{{tag}}}:tenant:acme:leases") for tag in TAGS}


def at_once(client: redis.Redis) -> list[int]:
    """The leases in all shards in one instant, where one server has them all; else nothing."""
    if isinstance(cast("object", client), RedisCluster):
        return []
    with client.pipeline(transaction=True) as pipe:
        for tag in TAGS:
            pipe.zcard(f"fleet:{{{tag}}}:tenant:acme:leases")
        return pipe.execute()


async def test_every_shard_decides_by_a_change_once_it_is_told(start: Start, shards: redis.Redis) -> None:
    await limited(start, concurrent_jobs=3)
    for tag in TAGS:
        assert shards.hget(f"fleet:{{{tag}}}:tenants", "acme") == b'{"concurrent_jobs":3}'


async def test_fewer_than_shards_are_all_placed_and_no_more(start: Start, shards: redis.Redis) -> None:
    engine = await limited(start, concurrent_jobs=3)
    wanted = msgspec.structs.replace(request(), demand=DEMAND)
    told = [await engine.place(wanted) for _ in range(5)]
    assert [type(verdict) for verdict in told] == [Placement] * 3 + [Refusal] * 2
    last = told[-1]
    assert isinstance(last, Refusal)
    assert last.refusal is RefusalClass.QUOTA
    assert leases(shards) == {tag: share_of(TAGS, tag, "acme", 3) for tag in TAGS}
    explained, _ = await engine.parts.fleet.explain(DEMAND, frozenset())
    assert explained.class_ == "quota"


async def test_the_whole_quota_can_be_had_where_one_shard_has_all_the_nodes(
    start: Start, shards: redis.Redis
) -> None:
    engine = await start()
    alone = engine.shards[5]
    (node,) = nodes_in(engine, alone, 1)
    await alone.functions.node_register(node, endpoint="http://n", slots=50, capabilities=["gpu"], ttl_ms=600_000)
    await engine.parts.pools.put_tenant(ACME, '{"concurrent_jobs":12,"waiting_jobs":5}')
    await engine.parts.fleet.refresh()
    for number in range(12):
        explained, _ = await engine.parts.fleet.explain(DEMAND, frozenset())
        assert explained.class_ == "placeable", number
        wanted = request(f"k{number}" if number % 2 else "")
        assert isinstance(await engine.place(msgspec.structs.replace(wanted, demand=DEMAND)), Placement), number
    explained, _ = await engine.parts.fleet.explain(DEMAND, frozenset())
    assert explained.class_ == "quota"
    waits = [msgspec.structs.replace(request("", wait_ms=600_000), demand=DEMAND) for _ in range(6)]
    told = [type(await engine.place(wanted)) for wanted in waits]
    assert told == [Waiting] * 5 + [Crowded]
    assert leases(shards)[alone.tag] == sum(leases(shards).values()) == 12
    assert sum(int(shards.hget(f"fleet:{{{tag}}}:lent", "concurrent_jobs acme") or 0) for tag in TAGS) == 0


async def test_ids_of_clients_reach_the_whole_quota_too(start: Start, shards: redis.Redis) -> None:
    engine = await limited(start, concurrent_jobs=11)
    told = [await engine.place(msgspec.structs.replace(request(f"k{i}"), demand=DEMAND)) for i in range(15)]
    assert Counter(type(verdict) for verdict in told) == {Placement: 11, Refusal: 4}
    assert sum(leases(shards).values()) == 11


async def test_what_waits_where_the_part_is_used_up_is_moved_to_where_it_is_not(
    start: Start, shards: redis.Redis
) -> None:
    engine = await limited(start, concurrent_jobs=0)
    told = [
        await engine.place(msgspec.structs.replace(request(f"w{i}", wait_ms=600_000), demand=DEMAND))
        for i in range(6)
    ]
    assert [type(verdict) for verdict in told] == [Waiting] * 6
    await engine.parts.pools.put_tenant(ACME, '{"concurrent_jobs":6}')
    await until(lambda: sum(leases(shards).values()) == 6)
    assert leases(shards) == {tag: share_of(TAGS, tag, "acme", 6) for tag in TAGS}


async def test_no_more_wait_than_may_and_these_find_a_shard(start: Start, shards: redis.Redis) -> None:
    engine = await limited(start, concurrent_jobs=0, waiting_jobs=5)
    waits = msgspec.structs.replace(request(wait_ms=600_000), demand=DEMAND)
    told = [await engine.place(waits) for _ in range(7)]
    assert [type(verdict) for verdict in told] == [Waiting] * 5 + [Crowded] * 2
    assert sum(shards.zcard(f"fleet:{{{tag}}}:pending") for tag in TAGS) == 5


async def test_replicas_that_place_at_once_never_give_more(start: Start, shards: redis.Redis) -> None:
    engines = [await limited(start, concurrent_jobs=10), await start()]
    seen, over = Counter[str](), False

    async def contend(engine: Engine, number: int) -> None:
        for turn in range(25):
            # half of them by an id of their own, which may move
            wanted = request(f"c{number}.{turn}" if turn % 2 else "")
            verdict = await engine.place(msgspec.structs.replace(wanted, demand=DEMAND))
            if isinstance(verdict, Placement):
                job = verdict.placed.placement.job
                seen["placed"] += 1
                found = await engine.parts.jobs.shard(job, ACME)
                assert found is not None
                await found.functions.job_finish(job, verdict.placed.placement.fence, "succeeded")
            else:
                assert isinstance(verdict, Refusal)
                assert verdict.refusal is RefusalClass.QUOTA
                seen["refused"] += 1

    async def watch() -> None:
        while not over:
            held = await asyncio.to_thread(at_once, shards)
            assert sum(held) <= 10, held
            seen["looks"] += 1
            seen["whole"] += sum(held) == 10

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(contend(engine, i * 2 + j) for j, engine in enumerate(engines) for i in range(10)))
    over = True
    await watching
    assert min(seen["placed"], seen["refused"], seen["looks"]) > 20, seen
    assert sum(leases(shards).values()) == 0
