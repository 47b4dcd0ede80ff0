"""A replica dies at each step of a move between shards: the job is there once, and nothing stays behind."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from scheduler.dev.process import spawn_bound
from scheduler.domain.ids import JobId
from scheduler.domain.job import JobRequest
from scheduler.engine.dispatch import Placement
from scheduler.engine.engine import Engine
from scheduler.settings import Settings
from scheduler.store.codec import Exists, Waiting
from tests.conftest import divide, looking
from tests.integration.engine.dying import STEPS
from tests.integration.engine.test_engine import request, until
from tests.integration.engine.test_shards import name_in, nodes_in

ROOT = Path(__file__).parents[3]
KILLED = [(step, moment) for step in STEPS for moment in ("before", "after")]


@pytest.fixture
async def engine(redis_url: str, client: redis.Redis) -> AsyncIterator[Engine]:
    divide(client, 3)
    running = Engine(Settings(redis_url=redis_url, refresh_ms=50, reap_ms=50))
    await running.start()
    await until(lambda: len(running.shards) == 3 and running.obstacle() is None)
    yield running
    await running.stop()


@pytest.fixture
def everywhere(engine: Engine, client: redis.Redis) -> Iterator[redis.Redis]:
    """A client that reaches every shard."""
    del engine  # it has divided the fleet
    with looking(client) as found:
        yield found.redis


async def register(engine: Engine, shard: int, slots: int) -> None:
    part = engine.shards[shard]
    for node in nodes_in(engine, part, 1):
        await part.functions.node_register(
            node, endpoint="http://n", slots=slots, capabilities=["gpu"], ttl_ms=600_000
        )
    await part.mirror.refresh()


def leases(engine: Engine, everywhere: redis.Redis) -> Counter[str]:
    """What holds a slot, by the nodes' own sets, in all shards."""
    found: Counter[str] = Counter()
    for shard in engine.shards:
        for node in nodes_in(engine, shard, 1):
            members: Any = everywhere.zrange(f"{shard.key}:node:{node}:leases", 0, -1)
            found.update(member.decode() for member in members)
    return found


def delivered(engine: Engine, everywhere: redis.Redis, job: str) -> int:
    """How many deliveries of the job lie in inboxes."""
    count = 0
    for shard in engine.shards:
        for node in nodes_in(engine, shard, 1):
            entries: Any = everywhere.xrange(f"{shard.key}:node:{node}:inbox")
            count += sum(fields[b"job"] == job.encode() for _, fields in entries)
    return count


async def killed(url: str, step: str, moment: str, job: str) -> None:
    """A replica in a process of its own, until it has killed itself there."""
    argv = [sys.executable, "-m", "tests.integration.engine.dying", url, step, moment, job]
    process: subprocess.Popen[bytes] = spawn_bound(argv, cwd=ROOT)
    assert await asyncio.to_thread(process.wait, 20) == -9


@pytest.mark.parametrize(("step", "moment"), KILLED)
@pytest.mark.parametrize("again", [True, False], ids=["retried", "given up"])
async def test_placing_in_another_shard(
    engine: Engine, redis_url: str, everywhere: redis.Redis, step: str, moment: str, *, again: bool
) -> None:
    name = name_in(engine, engine.shards[0])
    job = f"default:{name}"
    await register(engine, 1, 2)
    await killed(redis_url, step, moment, job)
    if again:
        wanted = request(job, digest="digest")
        verdict = await engine.place(JobRequest(JobId(job), "digest", wanted.demand, ack_ms=600_000))
        assert isinstance(verdict, Placement | Exists)
        assert leases(engine, everywhere)[job] == 1

    def calm() -> bool:
        held = leases(engine, everywhere)
        left: Any = everywhere.hget(f"{engine.shards[0].key}:job:{job}", "settled")
        # either it was placed and its home knows, or there is no trace of it
        known = left == b"1" if held[job] else not everywhere.exists(f"{engine.shards[0].key}:job:{job}")
        return held.total() == held[job] and known

    await until(calm, 10)
    placed = leases(engine, everywhere)[job]
    assert delivered(engine, everywhere, job) == placed
    assert (
        placed == 1
        if again or (step, moment) in {("take", "after"), *((("settle", m)) for m in ("before", "after"))}
        else placed == 0
    )


@pytest.mark.parametrize(("step", "moment"), KILLED)
async def test_moving_a_job_that_waits(
    engine: Engine, redis_url: str, everywhere: redis.Redis, step: str, moment: str
) -> None:
    await register(engine, 0, 1)
    assert isinstance(await engine.place(request("0.a")), Placement)
    demand = request("0.b").demand
    name = name_in(engine, engine.shards[0])
    waiting = await engine.place(
        JobRequest(JobId(f"default:{name}"), "digest", demand, ack_ms=600_000, wait_ms=60_000)
    )
    assert isinstance(waiting, Waiting)
    # this one must not be the one that moves it
    await engine.stop()
    shard = engine.shards[2]
    client_of_its_own = Engine(Settings(redis_url=redis_url, refresh_ms=50, reap_ms=50))
    node = nodes_in(engine, shard, 1)[0]
    functions = type(shard.functions)(client_of_its_own.first.functions.client, shard.key)
    await functions.node_register(node, endpoint="http://n", slots=2, capabilities=["gpu"], ttl_ms=600_000)
    await killed(redis_url, step, moment, "")
    await client_of_its_own.start()
    job = waiting.job

    def there() -> bool:
        at: Any = everywhere.hget(f"{shard.key}:job:{job}", "state")
        settled: Any = everywhere.hget(f"{engine.shards[0].key}:job:{job}", "settled")
        return at == b"claimed" and settled == b"1" and leases(engine, everywhere).total() == 2

    await until(there, 10)
    assert delivered(engine, everywhere, job) == 1
    assert leases(engine, everywhere)[job] == 1
    await client_of_its_own.stop()
