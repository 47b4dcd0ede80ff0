"""A client's queue is bounded and honest, and a tenant sees its own."""

import asyncio

import pytest

from scheduler.domain.ids import JobId, NodeId, PoolName, Tenant, Token
from scheduler.domain.node import Node, Shape
from scheduler.domain.pool import Pool
from scheduler.engine.subscription import Gap, Subscription, Wanted, sees
from scheduler.placement.snapshot import Snapshot, updated
from scheduler.store.events import START, Event

ANY = Wanted(Tenant("default"))


def event(number: int, kind: str = "job_failed", **fields: str) -> Event:
    return Event(f"1000-{number}", kind, fields)


def fleet(**nodes: str) -> Snapshot:
    """Nodes, each in the one pool named."""
    pools = {
        PoolName("gold"): Pool(tenants=("acme",)),
        PoolName("silver"): Pool(tenants=("acme", "other")),
        PoolName("all"): Pool(),
    }
    made = [
        Node(NodeId(n), Shape(frozenset({Token("a")}), frozenset({PoolName(p)})), "1", "ready", 1, 0, "", False)
        for n, p in nodes.items()
    ]
    return updated(Snapshot(pools=pools), made, [])


async def taken(subscription: Subscription) -> list[int | Gap]:
    async with asyncio.timeout(1):
        found = await subscription.take()
    return [x if isinstance(x, Gap) else int(x.position.split("-")[1]) for x in found]


async def test_a_client_takes_all_that_has_come_in_order() -> None:
    subscription = Subscription(ANY, START)
    subscription.offer([event(1), event(2)])
    subscription.offer([event(3)])
    assert await taken(subscription) == [1, 2, 3]
    waiting = asyncio.create_task(taken(subscription))
    await asyncio.sleep(0)
    subscription.offer([event(4)])
    assert await waiting == [4]


async def test_what_the_client_has_heard_already_is_not_told_again() -> None:
    subscription = Subscription(ANY, "1000-2")
    subscription.offer([event(1), event(2), event(3)])
    assert await taken(subscription) == [3]
    subscription.move("1000-10")
    subscription.offer([event(9), event(10), event(11)])
    assert await taken(subscription) == [11]


async def test_a_full_queue_loses_the_newest_and_says_how_many_at_their_place() -> None:
    subscription = Subscription(ANY, START, queue_max=4)
    subscription.offer([event(number) for number in range(1, 8)])
    assert await taken(subscription) == [1, 2, 3, 4, Gap(3)]
    subscription.offer([event(8)])
    assert await taken(subscription) == [8]


async def test_a_trim_in_front_of_everybody_is_one_gap_however_often_it_is_told() -> None:
    subscription = Subscription(ANY, START)
    subscription.offer([event(1)])
    subscription.gap()
    subscription.gap()
    subscription.offer([event(2)])
    assert await taken(subscription) == [1, Gap(), 2]


async def test_an_ended_subscription_gives_nothing_more() -> None:
    subscription = Subscription(ANY, START)
    waiting = asyncio.create_task(taken(subscription))
    await asyncio.sleep(0)
    subscription.end()
    assert await waiting == [] == await taken(subscription)


@pytest.mark.parametrize(
    ("given", "acme", "other"),
    [
        (event(1, job="a", tenant="acme", node="n1"), True, False),
        (event(1, job="a", tenant="other", node="n1"), False, True),
        (event(1, job="a", node="n3"), False, False),
        (event(1, "node_lost", node="n1"), True, False),
        (event(1, "node_lost", node="n2"), True, True),
        (event(1, "node_lost", node="n3"), True, True),
        (event(1, "node_lost", node="n4"), False, False),
        (event(1, "node_lost", node="gone"), False, False),
        (event(1, "pool_stored", pool="all"), False, False),
        (event(1, "something_new"), False, False),
    ],
)
def test_a_tenant_sees_its_jobs_and_the_nodes_of_its_pools(given: Event, *, acme: bool, other: bool) -> None:
    snapshot = fleet(n1="gold", n2="silver", n3="all", n4="unknown")
    assert (sees(Tenant("acme"), given, snapshot), sees(Tenant("other"), given, snapshot)) == (acme, other)


def test_filters_hold_together() -> None:
    wanted = Wanted(Tenant("acme"), frozenset({"job_failed"}), JobId("a"), NodeId("n1"))
    fields = {"job": "a", "node": "n1", "tenant": "acme"}
    assert wanted.takes(event(1, **fields), Snapshot())
    assert not wanted.takes(event(1, "job_lost", **fields), Snapshot())
    for name in fields:
        assert not wanted.takes(event(1, **(fields | {name: "z"})), Snapshot())
