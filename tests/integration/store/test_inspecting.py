"""A closer look at one shard: leases, limits of load, and queues."""

from collections.abc import AsyncIterator

import pytest
import redis

from scheduler.domain.ids import NodeId
from scheduler.errors import ServerUnavailable
from scheduler.store.client import connect
from scheduler.store.inspecting import SHOWN_MAX, Inspected, LeaseView, QueueView

P = "fleet:{0}"
pytestmark = pytest.mark.one_shard("it writes the keys of the first shard itself")
N1 = NodeId("n1")


@pytest.fixture
async def inspected(redis_url: str) -> AsyncIterator[Inspected]:
    client = connect(redis_url)
    yield Inspected(client, P)
    await client.aclose()


async def test_an_empty_shard_has_nothing_to_show(inspected: Inspected) -> None:
    assert await inspected.leases() == []
    assert await inspected.leases(N1) == []
    assert await inspected.limits(N1) == {}
    assert await inspected.queues() == []


async def test_leases_are_shown_by_deadline_without_what_has_ended(inspected: Inspected, client: redis.Redis) -> None:
    client.zadd(f"{P}:leases", {"late": 30, "early": 10, "ended": 20, "held": 40})
    client.zadd(f"{P}:node:n1:leases", {"early": 10, "held": 40})
    for job, state in (("late", "running"), ("early", "claimed"), ("ended", "succeeded")):
        client.hset(f"{P}:job:{job}", mapping={"node": "n1", "state": state, "tenant": "acme"})
    early = LeaseView("early", "n1", "claimed", "acme")
    held = LeaseView("held", "", "", "")
    assert await inspected.leases() == [early, LeaseView("late", "n1", "running", "acme"), held]
    assert await inspected.leases(N1) == [early, LeaseView("held", "n1", "", "")]


async def test_of_many_leases_the_first_are_shown(inspected: Inspected, client: redis.Redis) -> None:
    client.zadd(f"{P}:leases", {f"j{number:03}": number for number in range(SHOWN_MAX + 5)})
    found = await inspected.leases()
    assert (len(found), found[0].job, found[-1].job) == (SHOWN_MAX, "j000", f"j{SHOWN_MAX - 1:03}")


async def test_limits_are_those_that_the_node_has_itself(inspected: Inspected, client: redis.Redis) -> None:
    client.hset(f"{P}:node:n1", mapping={"cpu_max": "70", "gpu_max": "12.5", "cpu": "3"})
    assert await inspected.limits(N1) == {"cpu": 70.0, "gpu": 12.5}


async def test_queues_are_shown_the_longest_first_with_their_heads(inspected: Inspected, client: redis.Redis) -> None:
    wanted = {
        "aa:acme": '{"any_of":[["asr:zh","gpu"],["x"]],"pool":"gold","fallback":true,"languages":"","exclude":""}',
        "bb:default": '{"any_of":[["tts:en"]],"pool":"","fallback":true,"languages":"","exclude":""}',
    }
    for name, text in wanted.items():
        client.hset(f"{P}:waiting", name, text)
    client.zadd(f"{P}:queue:aa:acme", {"acme:one": 1})
    client.zadd(f"{P}:queue:bb:default", {f"j{number}": number for number in range(7)})
    assert await inspected.queues() == [
        QueueView(f"{P}:queue:bb:default", "default", (("tts:en",),), "", 7, ("j0", "j1", "j2", "j3", "j4")),
        QueueView(f"{P}:queue:aa:acme", "acme", (("asr:zh", "gpu"), ("x",)), "gold", 1, ("acme:one",)),
    ]


async def test_without_a_server_it_says_so() -> None:
    client = connect("redis://127.0.0.1:1", timeout_ms=500)
    with pytest.raises(ServerUnavailable):
        await Inspected(client, P).queues()
    await client.aclose()
