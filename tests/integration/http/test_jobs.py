"""A job's life over HTTP: follow, start, finish, cancel, batch; fenced, and the tenant's own."""

import asyncio
import time
from typing import Any

import pytest

from scheduler.settings import Settings
from tests.integration.http.conftest import Speaker, ready, running
from tests.sharded import Shards

JOB: dict[str, Any] = {"requires": ["asr:zh"]}


async def placed(speak: Speaker, tenant: str | None = None, **more: Any) -> dict[str, Any]:
    told = await speak("POST", "/v1/jobs", JOB | more, tenant=tenant)
    assert told.status == 201, told
    job: dict[str, Any] = told.body["job"]
    return job


async def test_a_job_is_told_as_it_stands(speak: Speaker) -> None:
    await speak.register("n1")
    job = await placed(speak, id="a", priority=7)
    told = await speak("GET", "/v1/jobs/default:a")
    assert (told.status, told.kind) == (200, speak.kind)
    view = told.body["job"]
    assert {name: view[name] for name in job} == job
    assert (view["tenant"], view["priority"], view["result"], view["ended_at_ms"]) == ("default", 7, None, None)


async def test_a_job_is_started_and_finished_and_its_slot_is_free(speak: Speaker, shards: Shards) -> None:
    await speak.register("n1")
    job = await placed(speak, payload={"n": 1})
    path, fence = f"/v1/jobs/{job['id']}", job["fence"]
    started = await speak("POST", f"{path}/start", {"fence": fence})
    assert (started.status, started.kind) == (200, speak.kind)
    assert started.body["outcome"] == "running"
    assert 0 < started.body["remaining_ms"] <= 600_000
    assert (await speak("GET", path)).body["job"]["state"] == "running"
    end = {"fence": fence, "outcome": "succeeded", "result": "dé"}
    finished = await speak("POST", f"{path}/finish", end)
    assert (finished.status, finished.kind, finished.body) == (200, speak.kind, {"outcome": "finished"})
    view = (await speak("GET", path)).body["job"]
    assert (view["state"], view["result"]) == ("succeeded", "dé")
    assert view["created_at_ms"] <= view["started_at_ms"] <= view["ended_at_ms"]
    assert shards.holding("n1") == 0
    assert (await speak("POST", f"{path}/finish", end)).body == {"outcome": "duplicate"}


@pytest.mark.parametrize("verb", ["start", "finish"])
async def test_a_stale_fence_is_409_and_changes_nothing(speak: Speaker, shards: Shards, verb: str) -> None:
    await speak.register("n1")
    job = await placed(speak)
    before = shards.redis.hgetall(shards.job(job["id"]))
    for fence in (job["fence"] - 1, job["fence"] + 1):
        body = {"fence": fence} | ({"outcome": "failed"} if verb == "finish" else {})
        await speak.refused("POST", f"/v1/jobs/{job['id']}/{verb}", body, 409, "fence")
    assert shards.redis.hgetall(shards.job(job["id"])) == before
    assert shards.holding("n1") == 1


async def test_an_unknown_job_is_404(speak: Speaker) -> None:
    await speak.refused("GET", "/v1/jobs/nobody", None, 404)
    await speak.refused("GET", "/v1/jobs/nobody?wait_ms=60000", None, 404)
    await speak.refused("POST", "/v1/jobs/nobody/start", {"fence": 1}, 404)
    await speak.refused("POST", "/v1/jobs/nobody/finish", {"fence": 1, "outcome": "failed"}, 404)
    await speak.refused("POST", "/v1/jobs/nobody/cancel", None, 404)


async def test_a_job_of_another_tenant_is_404_and_stays_as_it_is(speak: Speaker, shards: Shards) -> None:
    await speak.register("n1")
    job = await placed(speak, tenant="acme", id="a")
    path = "/v1/jobs/acme:a"
    before = shards.redis.hgetall(shards.job("acme:a"))
    for tenant in (None, "other"):
        await speak.refused("GET", path, None, 404, tenant=tenant)
        await speak.refused("GET", f"{path}?wait_ms=60000", None, 404, tenant=tenant)
        await speak.refused("POST", f"{path}/start", {"fence": job["fence"]}, 404, tenant=tenant)
        end = {"fence": job["fence"], "outcome": "failed"}
        await speak.refused("POST", f"{path}/finish", end, 404, tenant=tenant)
        await speak.refused("POST", f"{path}/cancel", None, 404, tenant=tenant)
    assert shards.redis.hgetall(shards.job("acme:a")) == before
    assert (await speak("GET", path, tenant="acme")).status == 200
    assert (await speak("POST", f"{path}/cancel", tenant="acme")).body == {"outcome": "cancelled"}


async def test_cancel_ends_a_job_once(speak: Speaker, shards: Shards) -> None:
    await speak.register("n1")
    job = await placed(speak)
    told = await speak("POST", f"/v1/jobs/{job['id']}/cancel")
    assert (told.status, told.kind, told.body) == (200, speak.kind, {"outcome": "cancelled"})
    assert (await speak("GET", f"/v1/jobs/{job['id']}")).body["job"]["state"] == "cancelled"
    assert shards.holding("n1") == 0
    assert (await speak("POST", f"/v1/jobs/{job['id']}/cancel")).body == {"outcome": "duplicate"}


async def test_a_long_poll_answers_when_the_job_ends(speak: Speaker) -> None:
    await speak.register("n1")
    job = await placed(speak)
    path = f"/v1/jobs/{job['id']}"
    polls = [asyncio.create_task(speak("GET", f"{path}?wait_ms=60000")) for _ in range(3)]
    waiters = speak.app.state.engine.parts.shards.of_job(job["id"]).waker._waiters
    end = time.monotonic() + 10
    while len(waiters.get(job["id"], ())) < len(polls):
        assert time.monotonic() < end
        await asyncio.sleep(0.005)
    assert not any(poll.done() for poll in polls)
    await speak("POST", f"{path}/finish", {"fence": job["fence"], "outcome": "succeeded", "result": "r"})
    told = await asyncio.wait_for(asyncio.gather(*polls), 5)
    assert [one.body["job"]["result"] for one in told] == ["r"] * 3
    assert (await asyncio.wait_for(speak("GET", f"{path}?wait_ms=60000"), 5)).body["job"]["state"] == "succeeded"


async def test_a_long_poll_ends_at_its_time_with_the_job_as_it_is(speak: Speaker) -> None:
    await speak.register("n1")
    job = await placed(speak)
    started = time.monotonic()
    told = await speak("GET", f"/v1/jobs/{job['id']}?wait_ms=200")
    assert 0.2 <= time.monotonic() - started < 5
    assert (told.status, told.body["job"]["state"]) == (200, "claimed")


async def test_a_batch_tells_each_job_its_own_outcome(speak: Speaker, shards: Shards) -> None:
    await speak.register("n1", slots=2)
    jobs = [
        JOB | {"id": "a"},
        {"requires": ["a b"]},
        JOB | {"pool": "gold"},
        "job",
        JOB | {"priority": 11},
    ]
    told = await speak("POST", "/v1/jobs:batch", {"jobs": jobs})
    assert (told.status, told.kind) == (200, speak.kind)
    outcomes = told.body["jobs"]
    assert [outcome["status"] for outcome in outcomes] == [201, 422, 403, 422, 422]
    assert outcomes[0]["job"]["id"] == "default:a"
    assert outcomes[0]["placement"]["candidates"] >= 0
    fields = [outcome.get("problem", {}).get("field") for outcome in outcomes]
    assert fields == [None, "requires[0]", "pool", "body", "priority"]
    assert all(("job" in outcome) != ("problem" in outcome) for outcome in outcomes)
    again = await speak("POST", "/v1/jobs:batch", {"jobs": [JOB | {"id": "a"}, JOB | {"id": "a", "priority": 1}]})
    assert [outcome["status"] for outcome in again.body["jobs"]] == [200, 409]
    assert shards.total("leases") == 1


@pytest.mark.parametrize("packed", [False, True])
async def test_a_batch_of_a_thousand_takes_what_there_is_and_no_more(
    redis_url: str,
    shards: Shards,
    packed: bool,  # noqa: FBT001
) -> None:
    # every refusal asks every shard, and a busy test machine needs more than a second for that
    async with running(Settings(redis_url=redis_url, deadline_ms=10_000)) as (app, plain):
        await ready(app)
        speak = Speaker(plain, packed, app)
        await speak.register("n1", slots=600)
        await speak.register("n2", slots=300)
        await speak.followed()
        told = await speak("POST", "/v1/jobs:batch", {"jobs": [JOB] * 1_000})
    statuses = [outcome["status"] for outcome in told.body["jobs"]]
    assert (statuses.count(201), statuses.count(503), len(statuses)) == (900, 100, 1_000)
    assert {outcome["problem"]["class"] for outcome in told.body["jobs"] if "problem" in outcome} == {"overloaded"}
    assert (shards.holding("n1"), shards.holding("n2")) == (600, 300)
