import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from scheduler.agent import FencedOut
from scheduler.agent.meters import Meters
from scheduler.agent.running import Hands
from scheduler.dev.server import EmbeddedServer
from scheduler.errors import BadInput
from scheduler.store.client import connect
from scheduler.store.functions import Functions
from tests.connections import cut
from tests.integration.agent.conftest import NODE, Gated, Site, node_config, site_on, until
from tests.integration.agent.lossy import relay_to

RELAY = "a relay stands in front of one server"


@pytest.mark.one_shard("an emptied one of several takes no node before a replica has told it the division")
async def test_after_flushall_the_node_is_back_as_a_new_incarnation_and_inherits_nothing(site: Site) -> None:
    gated = Gated()
    async with site.agent(gated) as (agent, task):
        first = agent.incarnation
        await site.place("j1")
        await until(lambda: gated.begun)
        site.shards.everywhere("FLUSHALL")
        await until(lambda: agent.incarnation not in {None, first})
        await until(lambda: gated.cancelled)
        assert site.node()["incarnation"] == str(agent.incarnation)
        gated.go.set()
        await site.place("j2")
        await until(lambda: site.ended("j2"))
        assert not task.done()
    assert site.job("j1") == {}
    assert site.leases() == []


async def test_a_twin_takes_the_id_and_the_first_stops_its_work_with_a_clear_word(site: Site) -> None:
    gated = Gated()
    async with site.agent(gated) as (_, first):
        await site.place("j1")
        await until(lambda: gated.begun)
        async with site.agent(Gated()) as (second, running):
            await asyncio.wait([first], timeout=10)
            with pytest.raises(FencedOut, match="Another process has registered this node id; this one stops: n1"):
                first.result()
            # until it is told it may read on, and meet the next attempt of its own job
            assert {job.id for job in gated.cancelled} == {"j1"}
            assert site.node()["incarnation"] == str(second.incarnation)
            assert not running.done()


async def test_a_replaced_process_that_is_told_to_leave_does_not_drain_its_replacement(site: Site) -> None:
    # so slow a heart that SIGTERM comes before it learns of the replacement
    slow = node_config(heartbeat_ms=30_000, ttl_ms=60_000)
    async with site.agent(Gated(), slow) as (first, task), site.agent(Gated()) as (second, _):
        first.leave()
        await asyncio.wait([task], timeout=10)
        assert isinstance(task.exception(), FencedOut)
        assert site.node()["state"] == "ready"
        assert site.node()["incarnation"] == str(second.incarnation)


async def test_drained_by_the_operator_it_finishes_its_work_and_stays(site: Site) -> None:
    gated = Gated()
    async with site.agent(gated) as (_, task):
        await site.place("j1")
        await until(lambda: gated.begun)
        assert await site.functions.node_mark(NODE, "drain", 60_000) == "draining"
        first = int(site.node()["heartbeat_at_ms"])
        await until(lambda: int(site.node()["heartbeat_at_ms"]) > first + 300)
        assert gated.cancelled == []
        gated.go.set()
        await until(lambda: site.ended("j1"))
        assert site.job("j1")["state"] == "succeeded"
        assert site.node()["state"] == "draining"
        assert not task.done()
        await site.functions.node_mark(NODE, "uncordon")
        seen = int(site.node()["heartbeat_at_ms"])
        await until(lambda: int(site.node()["heartbeat_at_ms"]) > seen)
        await site.place("j2")
        await until(lambda: site.ended("j2"))
        assert site.job("j2")["state"] == "succeeded"


async def test_what_still_runs_at_the_operator_s_deadline_is_handed_back(site: Site) -> None:
    gated = Gated()
    async with site.agent(gated) as (_, task):
        await site.place("j1")
        await until(lambda: gated.begun)
        await site.functions.node_mark(NODE, "drain", 200)
        await until(lambda: site.job("j1").get("reason") == "released")
        assert site.used() == 0
        assert not task.done()


async def test_leaving_waits_for_what_runs_and_takes_the_node_out(site: Site) -> None:
    gated = Gated()
    async with site.agent(gated) as (agent, task):
        await site.place("j1")
        await until(lambda: gated.begun)
        agent.leave()
        await until(lambda: site.node()["state"] == "draining")
        assert not task.done()
        gated.go.set()
        await asyncio.wait_for(task, 10)
    assert site.job("j1")["state"] == "succeeded"
    assert site.node() == {}
    assert site.leases() == []


async def test_leaving_hands_back_what_does_not_end_in_time(site: Site) -> None:
    gated = Gated()
    async with site.agent(gated, node_config(slots=1, drain_ms=200)) as (agent, task):
        assert agent.incarnation is not None
        await site.functions.node_heartbeat(NODE, agent.incarnation, slots=2)
        await site.place("j1")
        await until(lambda: gated.begun)
        await site.place("j2")
        agent.leave()
        await asyncio.wait_for(task, 10)
    assert [site.job(job)["reason"] for job in ("j1", "j2")] == ["released", "released"]
    assert [job.id for job in gated.begun] == ["j1"]
    assert site.node() == {}
    assert site.leases() == []


async def test_over_a_crash_of_redis_handlers_go_on_and_their_ends_are_delivered(
    fresh_server: Callable[..., EmbeddedServer],
) -> None:
    server = fresh_server("--appendonly", "yes", "--appendfsync", "always")
    gated = Gated()
    async with site_on(server) as site, site.agent(gated) as (agent, task):
        first = agent.incarnation
        await site.place("j1")
        await until(lambda: gated.begun)
        server.kill()
        gated.go.set()
        await until(lambda: gated.at_once == 0)
        assert gated.cancelled == []
        await asyncio.to_thread(server.start)
        await until(lambda: site.ended("j1"))
        assert site.job("j1")["result"] == "done j1"
        assert site.used() == 0
        # the test's own connection is from before the crash, and a claim is not retried by the client
        await cut(site.async_client)
        await site.place("j2")
        await until(lambda: site.ended("j2"))
        assert agent.incarnation == first
        assert not task.done()


async def test_a_node_that_starts_before_redis_waits_for_it(fresh_server: Callable[..., EmbeddedServer]) -> None:
    server = fresh_server("--appendonly", "yes", "--appendfsync", "always")
    async with site_on(server) as site:
        server.kill()
        starting = asyncio.create_task(asyncio.to_thread(server.start))
        async with site.agent(Gated()) as (agent, task):
            await starting
            await until(lambda: agent.incarnation is not None)
            assert not task.done()


async def test_leaving_ends_in_time_without_redis(fresh_server: Callable[..., EmbeddedServer]) -> None:
    server = fresh_server()
    gated = Gated()
    async with site_on(server) as site, site.agent(gated, node_config(drain_ms=100)) as (agent, task):
        await site.place("j1")
        await until(lambda: gated.begun)
        server.kill()
        agent.leave()
        await asyncio.wait_for(task, 15)
        assert len(gated.cancelled) == 1


@pytest.mark.one_shard(RELAY)
async def test_a_lost_reply_to_a_registration_does_not_fence_the_node_itself(
    site: Site, server: EmbeddedServer
) -> None:
    async with relay_to(server.port) as relay, site.agent(Gated(), url=relay.url) as (agent, task):
        first = agent.incarnation
        relay.losing("registered", times=2)
        site.shards.everywhere("FLUSHALL")
        await until(lambda: agent.incarnation not in {None, first})
        assert relay.times == 0
        assert site.node()["incarnation"] == str(agent.incarnation)
        assert not task.done()


@pytest.mark.one_shard(RELAY)
async def test_lost_replies_to_start_and_finish_do_no_harm(site: Site, server: EmbeddedServer) -> None:
    gated = Gated()
    async with relay_to(server.port) as relay, site.agent(gated, url=relay.url):
        relay.losing("running", times=2)
        await site.place("j1")
        await until(lambda: gated.begun)
        assert relay.times == 0
        relay.losing("finished")
        gated.go.set()
        await until(lambda: site.ended("j1") and relay.times == 0)
        assert site.used() == 0
        await site.place("j2")
        await until(lambda: site.ended("j2"))
    assert [site.job(job)["state"] for job in ("j1", "j2")] == ["succeeded", "succeeded"]
    assert [job.id for job in gated.begun] == ["j1", "j2"]


async def test_a_config_that_redis_refuses_ends_the_agent_with_the_field(site: Site) -> None:
    async with site.agent(Gated()) as (agent, task):
        with pytest.raises(BadInput, match="capabilities must be 1 to 1024 tokens"):
            agent.offer(())
        assert not task.done()


def test_a_machine_without_a_gpu_driver_reports_the_rest() -> None:
    loads = Meters().read()
    assert ("gpu" in loads) == Path("/proc/driver/nvidia/version").exists()
    assert all(0 <= float(str(loads[name])) <= 100 for name in ("cpu", "mem"))


async def test_a_claim_that_races_with_the_leaving_is_run_or_handed_back_never_lost(site: Site) -> None:
    gated = Gated()
    gated.go.set()
    placed: list[str] = []

    async def place_until_refused(name: str) -> None:
        for i in range(5_000):
            if not await site.claim(f"{name}{i}"):
                return
            placed.append(f"{name}{i}")
        pytest.fail("the node was never closed to claims")

    async with site.agent(gated, node_config(slots=1_000)) as (agent, task):
        placing = asyncio.gather(*(place_until_refused(name) for name in "abcd"))
        await until(lambda: len(placed) >= 100)
        agent.leave()
        await asyncio.wait_for(placing, 20)
        await asyncio.wait_for(task, 20)
    assert site.leases() == []
    assert {(site.job(job)["state"], site.job(job)["reason"]) for job in placed} <= {
        ("succeeded", ""),
        ("pending", "released"),
    }


@pytest.mark.one_shard(RELAY)
async def test_what_was_delivered_but_never_read_is_handed_back(site: Site, server: EmbeddedServer) -> None:
    gated = Gated()
    async with relay_to(server.port) as relay, site.agent(gated, url=relay.url) as (agent, task):
        # five lost reads: the next one of the ordinary loop is most of a second away
        relay.losing("kind", times=5)
        await site.place("j1")
        await until(lambda: relay.times == 0)
        agent.leave()
        await asyncio.wait_for(task, 10)
    assert gated.begun == []
    assert site.job("j1")["reason"] == "released"
    assert site.leases() == []


async def test_what_is_handed_back_while_the_last_reports_are_awaited_is_reported_too(site: Site) -> None:
    await site.functions.node_register(NODE, endpoint="x", slots=50, capabilities=["work"])
    placed = [await site.place(f"j{i}") for i in range(50)]
    # one connection: the later reports queue behind the first
    narrow = connect(site.url, connections=1)
    hands = Hands(Functions(narrow, site.key), Gated(), 50)
    hands.close()
    hands.take(placed[0].job, placed[0].fence)
    delivering = asyncio.create_task(hands.deliver())
    await asyncio.sleep(0)
    for placement in placed[1:]:
        hands.take(placement.job, placement.fence)
    await asyncio.wait_for(delivering, 20)
    await narrow.aclose()
    assert site.used() == 0
    assert {site.job(placement.job)["reason"] for placement in placed} == {"released"}
