"""Row j's judge sees what it is there for, and real replicas do what a plan says."""

import asyncio

import pytest
import redis

from scheduler.bench import quality
from scheduler.bench.live import Seen, live
from scheduler.bench.stage import P, Stage
from scheduler.dev.server import EmbeddedServer
from scheduler.sim.plan import SimPlan
from tests.lua.shard import Shard

_COMPLETE = "  if not node then return refuse(S, claim, order, complete) end"
SABOTAGE = f"  if claim.id == 'j1' then return refuse(S, claim, order, true) end\n{_COMPLETE}"


@pytest.mark.parametrize(("broken", "in_vain"), [(_COMPLETE, b"0"), (SABOTAGE, b"1")])
def test_the_judge_sees_a_refusal_in_vain(client: redis.Redis, broken: str, in_vain: bytes) -> None:
    code = quality.judged_library()
    assert code.count(_COMPLETE) == 1
    client.execute_command("FUNCTION", "LOAD", "REPLACE", code.replace(_COMPLETE, broken))
    shard = Shard(client)
    shard.register("n1", "gpu", slots=1, ttl_ms=3_600_000)
    shard.claim("j1", "n1", requires="gpu")
    shard.claim("j2", "n1", requires="gpu")
    shard.claim("j3", "n1", requires="gpu")
    judged = client.hgetall(f"{P}:judged")
    assert judged == {b"refused": b"2", b"in_vain": in_vain}


def test_real_replicas_take_the_work_of_a_plan_and_leave_nothing_behind(
    server: EmbeddedServer, client: redis.Redis
) -> None:
    plan = SimPlan(nodes=6, slots=(4, 4), replicas=2, service_ms=100, load=0.8, jobs=60, heartbeat_ms=200)

    async def run() -> tuple[Seen, Seen]:
        async with live(Stage(server, client), plan) as running:
            loaded = await running.run()
            await running.stop()
            return loaded, await running.burst(20)

    client.flushall()
    loaded, burst = asyncio.run(run())
    assert loaded.placed + loaded.refused == len(loaded.ages_ms) == 60
    assert loaded.placed > 40
    assert (burst.placed, burst.refused) == (20, 0)
    assert client.zcard(f"{P}:leases") == 0
