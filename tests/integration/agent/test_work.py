import asyncio
import json

import msgspec
import pytest

from scheduler.agent import Job
from scheduler.agent.demo import demo_handler
from scheduler.domain.ids import Token
from scheduler.domain.services import Asr, Nmt
from tests.integration.agent.conftest import NODE, Gated, Site, node_config, until


async def test_a_job_is_run_with_its_payload_and_its_result_is_kept(site: Site) -> None:
    seen: list[Job] = []

    async def handler(job: Job) -> str:
        await asyncio.sleep(0)
        seen.append(job)
        return job.payload.upper()

    async with site.agent(handler):
        placement = await site.place("j1", payload='{"text": "ä"}', timeout_ms=30_000)
        await until(lambda: site.ended("j1"))
    assert site.job("j1")["state"] == "succeeded"
    assert site.job("j1")["result"] == '{"TEXT": "Ä"}'
    assert [(job.id, job.fence, job.payload) for job in seen] == [("j1", placement.fence, '{"text": "ä"}')]
    assert 29_000 < seen[0].remaining_ms <= 30_000
    assert site.leases() == []


async def test_the_demo_handler_says_how_long_it_worked(site: Site) -> None:
    async with site.agent(demo_handler):
        await site.place("j1", payload="{}")
        await until(lambda: site.ended("j1"))
    said = json.loads(site.job("j1")["result"])
    assert 50 <= said["worked_ms"] <= 200


async def test_a_handler_that_raises_fails_its_job_with_the_reason(site: Site) -> None:
    async def handler(job: Job) -> str:
        await asyncio.sleep(0)
        raise ValueError({"surrogate": f"{job.id} \ud800"}["surrogate"] + "x" * 5_000)

    async with site.agent(handler):
        await site.place("j1")
        await until(lambda: site.ended("j1"))
        assert site.used() == 0
    assert site.job("j1")["state"] == "failed"
    assert site.job("j1")["result"].startswith("ValueError: j1 ?xxx")
    assert len(site.job("j1")["result"]) == 2_000


async def test_a_result_that_redis_would_refuse_is_a_failure_with_the_limit(site: Site) -> None:
    answers: dict[str, object] = {"large": "é" * 131_073, "number": 7, "odd": "\ud800", "most": "é" * 131_072}

    async def handler(job: Job) -> str:
        await asyncio.sleep(0)
        return answers[job.id]  # type: ignore[return-value]

    async with site.agent(handler, node_config(slots=4)):
        for job in answers:
            await site.place(job)
        await until(lambda: all(map(site.ended, answers)))
        assert site.used() == 0
    assert site.job("large")["result"] == "the result is larger than 262144 bytes"
    assert site.job("number")["result"] == "the handler's result must be text or None, it is int"
    assert site.job("odd")["result"].startswith("UnicodeEncodeError")
    assert [site.job(job)["state"] for job in answers] == ["failed", "failed", "failed", "succeeded"]


async def test_a_job_that_is_too_long_is_cancelled_at_its_limit(site: Site) -> None:
    gated = Gated()
    async with site.agent(gated):
        await site.place("j1", timeout_ms=300)
        await until(lambda: site.ended("j1") and site.used() == 0)
    # the node's own limit and reaping by a heartbeat are equally right to end it
    ended = site.job("j1")
    assert ended["state"] == "failed"
    assert ended["reason"] == "timed_out" or ended["result"] == "the handler did not end within 300 ms"
    assert len(gated.cancelled) == 1


async def test_a_timeout_inside_the_handler_is_not_taken_for_the_job_s(site: Site) -> None:
    async def handler(_: Job) -> str:
        await asyncio.sleep(0)
        raise TimeoutError("my backend")

    async with site.agent(handler):
        await site.place("j1")
        await until(lambda: site.ended("j1"))
    assert site.job("j1")["result"] == "TimeoutError: my backend"


async def test_a_cancelled_job_s_slot_is_free_only_after_the_handler_has_stopped(site: Site) -> None:
    gated = Gated()
    gated.clean_up.clear()
    async with site.agent(gated):
        placement = await site.place("j1")
        await until(lambda: gated.begun)
        assert await site.functions.job_cancel(placement.job) == "cancelled"
        await until(lambda: gated.cancelled)
        before = site.node()["heartbeat_at_ms"]
        await until(lambda: site.node()["heartbeat_at_ms"] > before)
        assert (site.job("j1")["state"], site.used()) == ("cancelled", 1)
        gated.clean_up.set()
        await until(lambda: site.used() == 0)
    assert len(gated.cancelled) == 1
    assert site.job("j1")["state"] == "cancelled"


async def test_a_running_job_that_redis_does_not_know_is_stopped(site: Site) -> None:
    gated = Gated()
    async with site.agent(gated):
        await site.place("j1")
        await until(lambda: gated.begun)
        site.client.delete(f"{site.key}:job:j1")
        await until(lambda: gated.cancelled)


async def test_a_cancel_of_a_job_that_is_not_known_here_is_confirmed(site: Site) -> None:
    gated = Gated()
    async with site.agent(gated, node_config(slots=1)):
        await site.place("j1")
        await until(lambda: gated.begun)
        # as job_cancel leaves a running job behind, under a fence that the agent never saw
        site.client.hset(f"{site.key}:node:n1:ending", "j0", "77 0-1")
        site.client.hset(
            f"{site.key}:job:j0", mapping={"state": "failed", "fence": 77, "ending:77": NODE, "tenant": "default"}
        )
        site.client.zadd(f"{site.key}:node:n1:leases", {"j0": 1})
        assert site.used() == 2
        await until(lambda: site.used() == 1)
        assert not site.client.hexists(f"{site.key}:node:n1:ending", "j0")
        assert site.job("j1")["state"] == "running"
        gated.go.set()
        await until(lambda: site.ended("j1"))


async def test_never_more_jobs_at_once_than_slots(site: Site) -> None:
    gated = Gated()
    async with site.agent(gated, node_config(slots=1)) as (agent, _):
        assert agent.incarnation is not None
        # Redis is told of more slots than the agent has
        await site.functions.node_heartbeat(NODE, agent.incarnation, slots=3)
        placed = [await site.place(job) for job in ("j1", "j2", "j3")]
        await until(lambda: gated.begun)
        assert await site.functions.job_cancel(placed[2].job) == "cancelled"
        gated.go.set()
        await until(lambda: site.ended("j1") and site.ended("j2"))
        await until(lambda: site.used() == 0)
    assert gated.most == 1
    assert [job.id for job in gated.begun] == ["j1", "j2"]


async def test_what_the_node_offers_follows_with_the_next_heartbeat(site: Site) -> None:
    async with site.agent(demo_handler) as (agent, _):
        agent.offer((*agent.config.capabilities, Token("more:x")))
        await until(lambda: site.client.sismember(f"{site.key}:cap:more", NODE))


async def test_an_offer_that_was_refused_over_maxmemory_is_told_again(site: Site) -> None:
    async with site.agent(demo_handler) as (agent, _):
        site.shards.everywhere("CONFIG", "SET", "maxmemory", 1)
        agent.offer((*agent.config.capabilities, Token("more:x")))
        before = site.node()["heartbeat_at_ms"]
        await until(lambda: int(site.node()["heartbeat_at_ms"]) > int(before) + 500)
        assert not site.client.sismember(f"{site.key}:cap:more", NODE)
        assert site.node()["state"] == "ready"
        site.shards.everywhere("CONFIG", "SET", "maxmemory", 0)
        await until(lambda: site.client.sismember(f"{site.key}:cap:more", NODE))


async def test_a_model_that_becomes_ready_or_not_changes_the_offer_with_the_next_heartbeat(site: Site) -> None:
    speech, model = Asr(("zh-CN",)), Nmt("any_to_any", ("zh", "en"), ready=False)
    async with site.agent(Gated(), node_config(services=(speech, model))) as (agent, _):
        assert site.node()["capabilities"].split() == ["work", "asr:zh"]
        agent.offer(services=(speech, msgspec.structs.replace(model, ready=True)))
        whole = ["work", "asr:zh", "nmt.any:en", "nmt.any:zh", "nmt.auto:en"]
        await until(lambda: site.node()["capabilities"].split() == whole)
        agent.offer((Token("other"),))
        await until(lambda: site.node()["capabilities"].split() == ["other", *whole[1:]])
        agent.offer(services=(model,))
        await until(lambda: site.node()["capabilities"].split() == ["other"])


@pytest.mark.one_shard("an emptied one of several takes no node before a replica has told it the division")
async def test_a_node_registers_again_with_what_it_offers_by_then(site: Site) -> None:
    async with site.agent(Gated(), node_config(capabilities=(), services=(Asr(("zh",)),))) as (agent, _):
        agent.offer(services=(Asr(("de",)),))
        site.shards.everywhere("FLUSHALL")
        await until(lambda: site.node().get("capabilities") == "asr:de")
