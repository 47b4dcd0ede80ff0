"""The snapshot, the claim and the three explains decide as the brute-force judge does, also from a stale snapshot."""

import asyncio
import contextlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import httpx
import pytest
import redis
from hypothesis import HealthCheck, Phase, event, example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from scheduler.app import create_app
from scheduler.cli.main import main
from scheduler.domain.demand import Demand
from scheduler.domain.explanation import Explanation, NodeVerdict, explained
from scheduler.domain.ids import JobId, NodeId, PoolName, Tenant, Token
from scheduler.domain.job import JobRequest
from scheduler.engine.batch import ClaimBatcher
from scheduler.engine.dispatch import Dispatcher, Placement, Refusal
from scheduler.engine.mirror import Mirror
from scheduler.placement.eligible import compile_demand
from scheduler.placement.explain import explain
from scheduler.placement.refusal import breakdown
from scheduler.placement.select import select
from scheduler.settings import Settings
from scheduler.store.client import connect
from scheduler.store.functions import Functions
from tests.lua.keyspace import P, dump
from tests.lua.shard import Shard
from tests.oracle import Judgement, judge, why_not
from tests.property.worlds import CORNERS, DEMANDS, WORLDS, Asked, World, configure, seed, unsettle

FAR = 10**15


def judged(shard: Shard, asked: Asked) -> Judgement:
    now = int(shard.meta("clock"))
    return judge(dump(shard.client, mask=False), now, asked.want())


def demand_of(asked: Asked) -> Demand:
    any_of = tuple(frozenset(map(Token, tokens)) for tokens in asked.any_of)
    pool = PoolName(asked.pool) if asked.pool else None
    return Demand(any_of, Tenant(asked.tenant), pool, asked.fallback, tuple(asked.languages))


def same(found: Explanation, truth: Judgement) -> None:
    assert found.class_ == truth.class_
    assert {node.node: node.reason or "eligible" for node in found.nodes} == truth.nodes
    order = [pool.pool for pool in found.pools]
    best = {node.node: order.index(node.pools[0]) for node in found.nodes if not node.conditions}
    assert best == truth.ranks
    if truth.class_ != "denied":
        assert {pool.pool: pool.class_ for pool in found.pools} == truth.pools
    counted = Counter(reason for reason in truth.nodes.values() if reason != "eligible")
    assert found.reasons == counted


class Judged:
    """The parts under judgement, on one server; `stale` is what the replica saw before the world moved on."""

    def __init__(self, shard: Shard, url: str, runner: asyncio.Runner) -> None:
        self.shard, self.url, self.run = shard, url, runner.run
        self.connected = connect(url)
        self.functions = Functions(self.connected, P)
        self.mirror = Mirror(self.functions, 200)
        self.batcher = ClaimBatcher(self.functions)
        self.dispatcher = Dispatcher(self.mirror, self.batcher, candidates=2, deadline_ms=5_000)
        self.jobs = 0

    def claim(self, asked: Asked) -> None:
        """A claim from the stale snapshot: the best pool that has a node, or the right class; undone afterwards."""
        self.jobs += 1
        request = JobRequest(
            JobId(f"j{self.jobs}"), "-", demand_of(asked), exclude=frozenset(map(NodeId, asked.exclude))
        )
        before, now = dump(self.shard.client, mask=False), int(self.shard.meta("clock"))
        stale = self.mirror.snapshot
        verdict = self.run(self.dispatcher.place(request))
        self.mirror.snapshot = stale
        # a node that the claim brings in may make or end a language pool, before or after it chose
        after = {**before, "pools": dump(self.shard.client).get("pools", {})}
        truths = [judge(keys, now, asked.want()) for keys in (before, after)]
        event(truths[0].class_)
        if isinstance(verdict, Placement):
            placed = verdict.placed.placement
            best = [
                (truth.ranks[placed.node], min(truth.ranks.values()))
                for truth in truths
                if placed.node in truth.ranks
            ]
            assert any(rank == least for rank, least in best), (placed, truths)
            self.shard.call("job_finish", request.id, placed.fence, "succeeded")
        elif isinstance(verdict, Refusal):
            assert verdict.refusal in {truth.class_ for truth in truths}, (verdict, truths)
        else:
            assert (verdict, truths[0].class_) == ("denied", "denied")

    def explained_by_redis(self, asked: Asked) -> None:
        text = json.dumps({name: value for name, value in asked.want().items() if value != ""})
        pages: list[NodeVerdict] = []
        page = self.run(self.functions.explain(text))
        pages += page.nodes
        while page.cursor != "0":
            page = self.run(self.functions.explain(text, page.cursor))
            pages += page.nodes
        truth = judged(self.shard, asked)
        if page.denied:
            assert truth.class_ == "denied"
            return
        found = explained(page.order, pages)
        same(found, truth)
        self.redis_adds_up(text, found)

    def redis_adds_up(self, text: str, found: Explanation) -> None:
        """What the function itself counts, for those who read it with redis-cli, is what its nodes add up to."""
        _, class_, _, reasons, pools, _, near = self.shard.call("explain", text)
        assert class_.decode() == found.class_
        assert {a.decode(): n for a, n in zip(reasons[::2], reasons[1::2], strict=True)} == found.reasons
        assert [(p[0].decode(), p[1].decode(), p[2]) for p in pools] == [
            (p.pool, p.class_, p.eligible) for p in found.pools
        ]
        assert [word.decode() for word in near] == (
            [found.near_miss.node, *found.near_miss.conditions] if found.near_miss else []
        )

    def explained_by_the_snapshot(self, asked: Asked) -> None:
        self.run(self.mirror.refresh())
        snapshot, demand, exclude = self.mirror.snapshot, demand_of(asked), frozenset(map(NodeId, asked.exclude))
        truth = judged(self.shard, asked)
        found = explain(snapshot, demand, exclude)
        same(found, truth)
        eligible = compile_demand(snapshot, demand)
        ranks = {
            snapshot.node(p).id: tier.rank - 1
            for tier in eligible.tiers
            for p in tier.positions
            if snapshot.free[p] > 0 and snapshot.node(p).id not in exclude
        }
        assert ranks == truth.ranks
        drawn = select(snapshot, eligible, 2, exclude, Random(0))
        if truth.ranks:
            best = min(truth.ranks.values())
            assert drawn.positions
            assert all(truth.ranks[snapshot.node(p).id] == best for p in drawn.positions)
        elif truth.class_ != "denied":
            counted = breakdown(snapshot, eligible, exclude)
            assert (counted.refusal, counted.reasons) == (truth.class_, found.reasons)

    def explained_over_http(self, app: Starlette, asked: Asked) -> None:
        body = asked.body()
        if body is None:
            return

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
                return await client.post("/v1/explain", json=body, headers={"x-fleet-tenant": asked.tenant})

        told(self.run(ask()).json(), judged(self.shard, asked))

    def explained_by_the_command(self, asked: Asked) -> None:
        argv = asked.argv()
        if argv is None:
            return
        said = io.StringIO()
        with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as ending:
            main(["explain", "--json", "--redis-url", self.url, *argv])
        truth = judged(self.shard, asked)
        assert ending.value.code == (0 if truth.class_ == "placeable" else 1)
        told(json.loads(said.getvalue()), truth)

    def free_set_is_right(self) -> None:
        """At rest P:free holds every node that could take a job whatever it requires, and no other."""
        keys, now = dump(self.shard.client, mask=False), int(self.shard.meta("clock"))
        anything: dict[str, Any] = {"any_of": [[]], "exclude": []}
        able = {name for name in keys.get("nodes", {}) if why_not(keys, name, now, anything, set()) is None}
        assert keys.get("free", set()) == able

    def at_rest(self) -> None:
        """Every live node has been heard of under the present configuration, and reaping has run."""
        for name, node in dump(self.shard.client, mask=False).items():
            if name.startswith("node:") and name.count(":") == 1 and node["state"] != "lost":
                self.shard.call("node_heartbeat", name.removeprefix("node:"), node["incarnation"])
        while self.shard.call("reap")[1:] != [0, 0, 0]:
            pass


def told(document: dict[str, Any], truth: Judgement) -> None:
    assert document["class"] == truth.class_
    assert {node["id"]: node["verdict"] for node in document["nodes"]} == truth.nodes
    counted = Counter(reason for reason in truth.nodes.values() if reason != "eligible")
    assert document["reasons"] == counted
    if truth.class_ != "denied":
        assert {pool["name"]: pool["class"] for pool in document["pools"]} == truth.pools
    nearest = document["near_miss"]
    assert (nearest is None) == (not counted)


def corners(test: Callable[..., None]) -> Callable[..., None]:
    for before, after, demands in CORNERS:
        test = example(before=before, after=after, demands=demands)(test)
    return test


@pytest.mark.one_shard("judges the keyspace of one shard by brute force")
@pytest.mark.timeout(600)  # a failure takes its time to be made small
@settings(
    max_examples=int(os.environ.get("FLEET_ORACLE_EXAMPLES", "60")),
    # a mutant need not be made small
    phases=[Phase.explicit, Phase.generate] if "FLEET_ORACLE_EXAMPLES" in os.environ else list(Phase),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@corners
@given(before=WORLDS, after=WORLDS, demands=st.lists(DEMANDS, min_size=4, max_size=8))
def test_all_decide_as_the_judge_does(
    client: redis.Redis, redis_url: str, before: World, after: World, demands: list[Asked]
) -> None:
    client.flushall()
    shard = Shard(client)
    seed(shard, before)
    with asyncio.Runner() as runner:
        parts = Judged(shard, redis_url, runner)
        app = create_app(Settings(redis_url=redis_url))
        try:
            runner.run(parts.mirror.refresh())
            # the snapshot that the claims are made from is that of the world before
            unsettle(shard, before, after)
            for number, asked in enumerate(demands):
                parts.explained_by_redis(asked)
                parts.claim(asked)
                # no node has heard of the configuration that the next one meets
                configure(shard, (before, after)[number % 2].config)
            parts.at_rest()
            parts.free_set_is_right()
            for asked in demands:
                parts.explained_by_the_snapshot(asked)
                parts.explained_over_http(app, asked)
                parts.explained_by_the_command(asked)
                parts.explained_by_redis(asked)
        finally:
            runner.run(app.state.engine.stop())
            runner.run(parts.connected.aclose())
