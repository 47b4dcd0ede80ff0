"""Each call of both clients on a real replica, and each refusal as what it is."""

import asyncio
import time

import msgspec
import pytest

from scheduler.client import (
    BadInput,
    Conflict,
    Denied,
    Fenced,
    JobState,
    NewJob,
    Pool,
    Refused,
    Selector,
    Unknown,
)
from scheduler.http.wire import JobBody
from tests.client.conftest import Connect, Replicas

WORK = NewJob(requires=["work"], deliver="direct")


def test_a_new_job_has_the_fields_and_defaults_that_the_server_knows() -> None:
    def told(kind: type[msgspec.Struct]) -> dict[str, object]:
        return {field.name: field.default for field in msgspec.structs.fields(kind)}

    ours, theirs = told(NewJob), told(JobBody)
    assert list(ours) == list(theirs)
    assert {name for name in ours if ours[name] != theirs[name]} == {"exclude"}
    assert (NewJob().exclude, JobBody().exclude) == ((), [])


async def test_a_direct_job_from_its_placement_to_its_end(replicas: Replicas, connect: Connect) -> None:
    (replica,) = replicas(1)
    replica.register("n1", slots=2)
    client = connect([replica.url])
    placed = await client("place", msgspec.structs.replace(WORK, id="first", payload={"text": "hello"}))
    job, fence = placed.job.id, placed.job.fence
    assert (job, placed.job.node.id, placed.job.node.endpoint) == ("default:first", "n1", "http://n1")
    assert (placed.job.pool, placed.job.attempt, placed.placement.fallback_used) == ("default", 1, False)

    started = await client("start", job, fence)
    assert msgspec.json.decode(started.payload) == {"text": "hello"}
    assert (await client("job", job)).state is JobState.RUNNING
    with pytest.raises(Fenced):
        await client("finish", job, fence + 1, "failed")
    assert await client("finish", job, fence, "succeeded", "done") == "finished"
    assert await client("finish", job, fence, "succeeded", "done") == "duplicate"
    ended = await client("wait", job, deadline_s=5)
    assert (ended.state, ended.result) == (JobState.SUCCEEDED, "done")
    assert await client("cancel", job) == "duplicate"

    other = (await client("place", WORK)).job.id
    assert await client("cancel", other) == "cancelled"
    assert (await client("job", other, wait_ms=5_000)).state is JobState.CANCELLED


async def test_each_refusal_is_an_exception_of_its_own(replicas: Replicas, connect: Connect) -> None:
    (replica,) = replicas(1)
    replica.register("n1", slots=1)
    client = connect([replica.url])
    assert (await client("place", msgspec.structs.replace(WORK, id="one"))).job.node.id == "n1"
    with pytest.raises(Conflict):
        await client("place", msgspec.structs.replace(WORK, id="one", priority=1))
    reasons: dict[str, int] = {}
    end = time.monotonic() + 10
    while not reasons:
        # a refusal is decided in Redis, its reasons are counted in a snapshot that may be behind
        with pytest.raises(Refused, match="overloaded") as full:
            await client("place", WORK, patient=False)
        assert full.value.class_ == "overloaded"
        reasons = full.value.reasons
        assert time.monotonic() < end
    assert reasons == {"full": 1}
    with pytest.raises(Refused) as impossible:
        await client("place", NewJob(requires=["nothing"]))
    assert (impossible.value.class_, impossible.value.reasons) == ("impossible", {"missing_capability": 1})
    with pytest.raises(Denied):
        await client("place", msgspec.structs.replace(WORK, pool="other"))
    with pytest.raises(BadInput) as bad:
        await client("place", NewJob(requires=["no spaces"]))
    assert bad.value.field.startswith("requires")
    for call in ("job", "cancel"):
        with pytest.raises(Unknown):
            await client(call, "default:never")
    with pytest.raises(Unknown):
        await client("start", "default:never", 1)


async def test_a_batch_has_an_outcome_for_each_job(replicas: Replicas, connect: Connect) -> None:
    (replica,) = replicas(1)
    replica.register("n1", slots=2)
    client = connect([replica.url])
    jobs = [WORK, NewJob(requires=["nothing"]), msgspec.structs.replace(WORK, pool="other"), WORK, NewJob()]
    placed, impossible, denied, again, bad = await client("place_batch", jobs)
    assert placed.job.node.id == again.job.node.id == "n1"
    assert placed.job.id != again.job.id
    assert isinstance(impossible, Refused)
    assert impossible.class_ == "impossible"
    assert isinstance(denied, Denied)
    assert isinstance(bad, BadInput)
    assert bad.field == "requires"


async def test_nodes_pools_and_explanations(replicas: Replicas, connect: Connect) -> None:
    (replica,) = replicas(1)
    client = connect([replica.url], tenant="acme")
    gold = Pool(selector=Selector(labels={"tier": "gold"}), tenants=("acme",), priority=3, d=2)
    stored = await client("put_pool", "gold", gold)
    assert (stored.name, stored.tenants, stored.priority, stored.d) == ("gold", ("acme",), 3, 2)
    assert (await client("put_pool", "other", Pool(selector=Selector(all=True), tenants=("other",)))).free == 0
    with pytest.raises(BadInput, match="tenants"):
        # nobody must not become everybody on the way
        await client("put_pool", "shut", Pool(selector=Selector(all=True), tenants=()))
    for i in range(205):
        replica.register(f"n{i:03}", slots=1, labels={"tier": "gold"})
    nodes = await client.all("nodes")
    assert [node.id for node in nodes] == [f"n{i:03}" for i in range(205)]
    assert nodes[0].pools == ["gold"], "the other one is another tenant's"
    replica.seen(205, "acme")
    told = await client("explain", NewJob(requires=["nothing"]))
    assert (told.class_, told.reasons) == ("impossible", {"missing_capability": 205})
    assert [pool.name for pool in told.pools] == ["gold"]
    assert [pool.name for pool in await client("pools")] == ["gold", "other"]
    await client("delete_pool", "gold")
    with pytest.raises(Unknown):
        await client("pool", "gold")


async def test_a_patient_placement_waits_for_a_slot_and_no_longer_than_its_deadline(
    replicas: Replicas, connect: Connect
) -> None:
    (replica,) = replicas(1)
    replica.register("n1", slots=1)
    client = connect([replica.url])
    held = (await client("place", WORK)).job
    begun = time.monotonic()
    with pytest.raises(Refused, match="overloaded"):
        # Retry-After says one second: to sleep until the deadline would help nobody
        await client("place", WORK, deadline_s=0.8)
    assert time.monotonic() - begun < 0.8

    # it begins to wait, and is done once the slot is free
    waiting = asyncio.create_task(client("place", WORK, deadline_s=10))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    assert await client("finish", held.id, held.fence, "succeeded") == "finished"
    assert (await waiting).job.node.id == "n1"
