"""Replicas that die, hang and lose answers: what was asked for happens once, or the caller is told in time."""

import asyncio
import time
from collections import Counter
from itertools import pairwise

import pytest

from scheduler.client import AsyncClient, Client, JobState, NewJob, NoReplica, Overrun, Pool, Selector, Unknown
from scheduler.dev.server import free_port
from tests.client.conftest import Connect, Either, Replicas
from tests.integration.agent.lossy import relay_to

# replicas start, die and are waited for
pytestmark = pytest.mark.slow
WORK = NewJob(requires=["work"], deliver="direct")


async def used(client: Either) -> int:
    """Every slot that is taken, as Redis counts them."""
    return sum(node.used for node in await client.all("nodes"))


async def test_a_replica_that_is_killed_in_the_middle_costs_no_job_and_doubles_none(replicas: Replicas) -> None:
    started = replicas(3)
    for node in ("n1", "n2"):
        started[0].register(node)
    async with AsyncClient([replica.url for replica in started]) as client:
        placed: list[str] = []

        async def load() -> None:
            for _ in range(50):
                answer = await client.place(WORK)
                placed.append(answer.job.id)

        loads = [asyncio.create_task(load()) for _ in range(4)]
        while len(placed) < 50:
            await asyncio.sleep(0.005)
        started[1].kill()
        await asyncio.gather(*loads)
        assert len(set(placed)) == 200
        assert await used(Either(client)) == 200


async def test_an_address_that_fails_is_left_out_for_a_moment(replicas: Replicas, connect: Connect) -> None:
    (replica,) = replicas(1)
    replica.register("n1")
    tried: list[float] = []

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tried.append(time.monotonic())
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listening:
        client = connect([f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", replica.url])
        for _ in range(30):
            await client("place", WORK)
    assert tried
    assert all(later - earlier > 0.9 for earlier, later in pairwise(tried))


async def test_a_replica_that_hangs_is_given_up_for_another(replicas: Replicas, connect: Connect) -> None:
    hung, well = replicas(2)
    hung.register("n1")
    hung.freeze()
    client = connect([hung.url, well.url])
    begun = time.monotonic()
    for _ in range(4):
        assert (await client("place", WORK)).job.node.id == "n1"
    assert time.monotonic() - begun < 8
    hung.thaw()


async def test_without_any_replica_each_call_ends_at_its_deadline(connect: Connect) -> None:
    client = connect([f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"])
    for call, *args in (("place", WORK), ("job", "default:a"), ("pools",), ("wait", "default:a")):
        begun = time.monotonic()
        with pytest.raises((NoReplica, Overrun)):
            await client(call, *args, deadline_s=0.5)
        assert time.monotonic() - begun < (3.5 if call == "wait" else 1.5), call


async def test_a_frozen_replica_alone_ends_each_call_at_its_deadline(replicas: Replicas, connect: Connect) -> None:
    (replica,) = replicas(1)
    client = connect([replica.url], deadline_s=0.5)
    replica.freeze()
    begun = time.monotonic()
    with pytest.raises(NoReplica):
        await client("place", WORK)
    assert 0.4 < time.monotonic() - begun < 1.5


async def test_a_placement_whose_answer_was_lost_is_made_once(replicas: Replicas, connect: Connect) -> None:
    (replica,) = replicas(1)
    replica.register("n1")
    async with relay_to(replica.port) as relay:
        client = connect([f"http://{relay.url.removeprefix('redis://')}", replica.url])
        relay.lose, relay.times = b"HTTP/1.1 201", 2
        jobs = {(await client("place", WORK)).job.id for _ in range(6)}
        assert relay.times < 2, "no answer was lost"
    assert len(jobs) == 6
    assert await used(client) == 6


async def test_what_is_not_safe_to_repeat_is_sent_once(replicas: Replicas, connect: Connect) -> None:
    (replica,) = replicas(1)
    async with relay_to(replica.port) as relay:
        client = connect([f"http://{relay.url.removeprefix('redis://')}"])
        await client("put_pool", "gold", Pool(selector=Selector(all=True)))
        relay.lose, relay.times = b"HTTP/1.1 200", 1
        with pytest.raises(NoReplica):
            await client("delete_pool", "gold")
        assert relay.times == 0
        with pytest.raises(Unknown):
            await client("pool", "gold")


async def test_waiting_for_a_job_survives_the_replica_that_is_asked(replicas: Replicas, connect: Connect) -> None:
    first, second = replicas(2)
    first.register("n1")
    client = connect([first.url, second.url])
    job = (await client("place", WORK)).job
    with pytest.raises(Overrun, match="it is claimed"):
        await client("wait", job.id, deadline_s=0.3)
    waits = [asyncio.create_task(client("wait", job.id, deadline_s=20)) for _ in range(2)]
    await asyncio.sleep(0.3)
    second.kill()
    with Client(first.url) as other:
        await asyncio.to_thread(other.finish, job.id, job.fence, "succeeded")
    states = Counter([(await wait).state for wait in waits])
    assert states == {JobState.SUCCEEDED: 2}
