"""Long polls on a real server: many at once, and over the loss of Redis."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis

from scheduler.dev.server import EmbeddedServer
from scheduler.domain.ids import Fence, JobId, Tenant
from scheduler.domain.job import JobState
from scheduler.domain.views import JobView
from scheduler.engine.dispatch import Placement
from scheduler.engine.engine import Engine
from scheduler.engine.reading import PAGE
from scheduler.settings import Settings
from scheduler.store.library import read_library
from tests.integration.engine.test_engine import register, request, until

pytestmark = pytest.mark.one_shard("is about the long polls of one shard, and their commands")
DEFAULT = Tenant("default")


async def placed(engine: Engine, count: int) -> dict[JobId, Fence]:
    await register(engine, "n1", slots=count)
    await engine.first.mirror.refresh()
    verdicts = await asyncio.gather(*(engine.place(request(f"0.j{number}")) for number in range(count)))
    found = [verdict.placed.placement for verdict in verdicts if isinstance(verdict, Placement)]
    assert len(found) == count
    return {placement.job: placement.fence for placement in found}


def commands(client: redis.Redis) -> int:
    """Reads of jobs and of events so far; sentinels and copies have commands of their own."""
    stats: Any = client.info("commandstats")
    return sum(
        int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("hmget", "hget", "xread", "xrange")
    )


async def test_a_thousand_long_polls_at_once_are_looked_up_together_and_ask_nothing_while_they_wait(
    redis_url: str, client: redis.Redis
) -> None:
    engine = Engine(Settings(redis_url=redis_url))
    jobs = await placed(engine, 1_000)
    before = client.info("commandstats")["cmdstat_hmget"]["calls"]
    waiting = [asyncio.create_task(engine.first.waker.wait(job, DEFAULT, 60_000)) for job in jobs]
    await until(
        lambda: (
            engine.first.waker.count == len(jobs)
            and not engine.first.reads._reads
            and bool(engine.first.follower.position)
        )
    )
    assert client.info("commandstats")["cmdstat_hmget"]["calls"] - before == len(jobs)  # in pipelines of a page
    quiet = commands(client)
    await asyncio.sleep(0.3)
    assert commands(client) - quiet <= 3  # the one XREAD, and our own look
    for start in range(0, len(jobs), PAGE):
        page = list(jobs.items())[start : start + PAGE]
        await asyncio.gather(
            *(engine.first.functions.job_finish(job, fence, "succeeded", "r") for job, fence in page[:10])
        )
    ended = {job for start in range(0, len(jobs), PAGE) for job in list(jobs)[start : start + 10]}
    await until(lambda: sum(task.done() for task in waiting) == len(ended))
    views = [task.result() for task in waiting if task.done()]
    assert {view.id for view in views if isinstance(view, JobView) and view.state is JobState.SUCCEEDED} == ended
    engine.first.waker.release()
    await asyncio.gather(*waiting)
    await engine.stop()


async def test_a_job_that_redis_lost_is_answered_as_unknown_once_redis_is_back(
    fresh_server: Callable[..., EmbeddedServer],
) -> None:
    server = fresh_server()
    with redis.Redis(port=server.port) as plain:
        plain.execute_command("FUNCTION", "LOAD", read_library().code)
    engine = Engine(Settings(redis_url=server.url))
    (job,) = await placed(engine, 1)
    waiting = asyncio.create_task(engine.first.waker.wait(job, DEFAULT, 60_000))
    await until(lambda: engine.first.follower._placed.is_set() and not engine.first.reads._reads)
    server.kill()
    server.start()
    async with asyncio.timeout(10):
        assert await waiting is None
    await engine.stop()


async def test_an_end_while_redis_was_out_of_reach_is_heard_of_afterwards(
    fresh_server: Callable[..., EmbeddedServer],
) -> None:
    server = fresh_server("--appendonly", "yes", "--appendfsync", "always")
    with redis.Redis(port=server.port) as plain:
        plain.execute_command("FUNCTION", "LOAD", read_library().code)
        engine = Engine(Settings(redis_url=server.url))
        jobs = await placed(engine, 1)
        ((job, fence),) = jobs.items()
        waiting = asyncio.create_task(engine.first.waker.wait(job, DEFAULT, 60_000))
        await until(lambda: engine.first.follower._placed.is_set() and not engine.first.reads._reads)
        server.kill()
        server.start()
        plain.execute_command("FCALL", "fleet1_job_finish", 1, "fleet:{0}", job, fence, "succeeded", "r")
        async with asyncio.timeout(10):
            view = await waiting
    assert isinstance(view, JobView)
    assert view.result == "r"
    await engine.stop()


async def test_data_replaced_under_a_long_poll_end_it(redis_url: str, client: redis.Redis) -> None:
    engine = Engine(Settings(redis_url=redis_url))
    (job,) = await placed(engine, 1)
    waiting = asyncio.create_task(engine.first.waker.wait(job, DEFAULT, 60_000))
    await until(lambda: engine.first.follower._placed.is_set() and not engine.first.reads._reads)
    client.flushall()
    client.execute_command("FUNCTION", "LOAD", "REPLACE", read_library().code)
    await register(engine, "n2")
    await engine.first.mirror.refresh()
    async with asyncio.timeout(10):
        assert await waiting is None
    await engine.stop()
