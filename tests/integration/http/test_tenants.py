"""The routes of tenants, and what a request over a quota is told."""

import asyncio
import time
from typing import Any

import pytest
import redis

from tests.integration.http.conftest import Speaker
from tests.sharded import Shards

JOB = {"requires": ["asr:zh"]}
NONE: dict[str, Any] = {"quota": None, "in_force": {}, "leases": 0, "waiting": 0}


async def limit(speak: Speaker, tenant: str = "acme", **quota: int) -> None:
    assert (await speak("PUT", f"/v1/tenants/{tenant}", quota)).status == 200


async def over(speak: Speaker, body: dict[str, Any], quota: str, most: int) -> dict[str, Any]:
    """The job is refused because of this quota; answers the document."""
    told = await speak.refused("POST", "/v1/jobs", body, 429, tenant="acme")
    assert (told.body["class"], told.body["quota"], told.body["limit"]) == ("quota", quota, most)
    assert told.headers["retry-after"] == "1"
    document: dict[str, Any] = told.body
    return document


async def test_quotas_are_stored_told_and_taken_away(speak: Speaker, shards: Shards) -> None:
    told = await speak("GET", "/v1/tenants")
    assert (told.status, told.kind, told.body) == (200, speak.kind, {"tenants": [], "tenants_version": 0})
    quota = {"concurrent_jobs": 2, "payload_bytes": 100}
    told = await speak("PUT", "/v1/tenants/acme", quota)
    version = int(shards.redis.hget("fleet:{0}", "tenants_version") or 0)
    row = {"name": "acme", "quota": quota, "in_force": quota, "leases": 0, "waiting": 0}
    assert (told.status, told.body) == (200, {"tenant": row, "tenants_version": version})
    assert (await speak("GET", "/v1/tenants/acme")).body == told.body
    for key in shards.keys:
        assert shards.redis.hget(f"{key}:tenants", "acme") == b'{"concurrent_jobs":2,"payload_bytes":100}'
    assert (await speak("DELETE", "/v1/tenants/acme")).body == {"outcome": "removed"}
    await speak.refused("DELETE", "/v1/tenants/acme", None, 404)
    assert not [key for key in shards.keys if shards.redis.exists(f"{key}:tenants")]


async def test_everyones_quotas_are_in_force_for_who_has_none(speak: Speaker) -> None:
    await limit(speak, "*", concurrent_jobs=5)
    await limit(speak, "gold", waiting_jobs=7)
    told = await speak("GET", "/v1/tenants")
    assert [tenant["name"] for tenant in told.body["tenants"]] == ["*", "gold"]
    assert (await speak("GET", "/v1/tenants/gold")).body["tenant"]["in_force"] == {"waiting_jobs": 7}
    assert (await speak("GET", "/v1/tenants/new")).body["tenant"] == {
        "name": "new", **NONE, "in_force": {"concurrent_jobs": 5},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"concurrent_jobs": -1}, "concurrent_jobs"),
        ({"requests_per_s": 0}, "requests_per_s"),
        ({"payload_bytes": 1.5}, "payload_bytes"),
        ({"waiting_jobs": None}, "waiting_jobs"),
        ({"jobs": 1}, "jobs"),
        ({"a b": 1}, "body"),
    ],
)
async def test_what_is_no_quota_is_refused_and_changes_nothing(
    speak: Speaker, shards: Shards, body: dict[str, Any], field: str
) -> None:
    await speak.refused("PUT", "/v1/tenants/acme", body, 422, field)
    assert not shards.redis.exists("fleet:{0}:tenants")
    await speak.refused("PUT", "/v1/tenants/a%20b", {}, 422, "tenant")


async def test_who_has_all_its_slots_is_told_so(speak: Speaker) -> None:
    await speak.register("n1", slots=4)
    await limit(speak, concurrent_jobs=0)
    await speak.followed()
    document = await over(speak, JOB, "concurrent_jobs", 0)
    assert document["reasons"] == {"quota": 1}
    assert (await speak("POST", "/v1/jobs", JOB, tenant="other")).status == 201
    told = await speak("POST", "/v1/jobs", {"requires": ["nothing"]}, tenant="acme")
    assert told.body["class"] in {"impossible", "unavailable"}, "what nobody offers is not a matter of quotas"


async def test_no_more_are_placed_than_may_and_explain_says_the_same(speak: Speaker) -> None:
    for number in range(16):
        await speak.register(f"n{number}", slots=4)
    await limit(speak, concurrent_jobs=5)
    jobs = []
    for _ in range(5):
        assert (await speak("POST", "/v1/explain", JOB, tenant="acme")).body["class"] == "placeable"
        told = await speak("POST", "/v1/jobs", JOB, tenant="acme")
        assert told.status == 201
        jobs.append(told.body["job"])
    assert (await speak("GET", "/v1/tenants/acme")).body["tenant"]["leases"] == 5
    explained = (await speak("POST", "/v1/explain", JOB, tenant="acme")).body
    assert (explained["class"], explained["reasons"]) == ("quota", {"quota": 16})
    assert explained["near_miss"]["conditions"] == ["quota"]
    await over(speak, JOB, "concurrent_jobs", 5)
    done = {"fence": jobs[0]["fence"], "outcome": "succeeded"}
    assert (await speak("POST", f"/v1/jobs/{jobs[0]['id']}/finish", done, tenant="acme")).status == 200
    assert (await speak("POST", "/v1/jobs", JOB, tenant="acme")).status == 201


async def test_no_more_wait_than_may(speak: Speaker) -> None:
    for number in range(16):
        await speak.register(f"n{number}", slots=1)
    await limit(speak, concurrent_jobs=0, waiting_jobs=3)
    waits = JOB | {"wait_ms": 60_000}
    for _ in range(3):
        assert (await speak("POST", "/v1/jobs", waits, tenant="acme")).status == 202
    await over(speak, waits, "waiting_jobs", 3)
    told = await speak("GET", "/v1/tenants")
    assert [(tenant["name"], tenant["waiting"]) for tenant in told.body["tenants"]] == [("acme", 3)]
    await limit(speak, concurrent_jobs=3)
    end = time.monotonic() + 10
    while (await speak("GET", "/v1/tenants/acme")).body["tenant"]["leases"] < 3:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def test_a_payload_is_no_longer_than_may_be(speak: Speaker) -> None:
    await speak.register("n1")
    await limit(speak, payload_bytes=10)
    for text, status in (("x" * 8, 201), ("x" * 9, 413), ("é" * 5, 413)):
        told = await speak("POST", "/v1/jobs", JOB | {"payload": text}, tenant="acme")
        assert told.status == status, text
    assert (told.body["field"], told.body["quota"], told.body["limit"]) == ("payload", "payload_bytes", 10)
    assert "retry-after" not in told.headers, "time does not mend it"
    batch = {"jobs": [JOB | {"payload": "x" * 9}, JOB]}
    outcomes = (await speak("POST", "/v1/jobs:batch", batch, tenant="acme")).body["jobs"]
    assert [outcome["status"] for outcome in outcomes] == [413, 201]


async def test_requests_of_a_second_are_counted_over_all_routes(speak: Speaker, shards: Shards) -> None:
    await limit(speak, requests_per_s=5)
    told = [await speak("GET", "/v1/nodes", tenant="acme") for _ in range(5)]
    assert [answer.status for answer in told] == [200] * 5
    refused = await speak.refused("GET", "/v1/nodes", None, 429, tenant="acme")
    assert (refused.body["quota"], refused.body["limit"]) == ("requests_per_s", 5)
    assert refused.headers["x-request-id"] == refused.body["request_id"]
    assert (await over(speak, JOB, "requests_per_s", 5))["title"] == "Quota"
    assert (await speak("GET", "/v1/nodes", tenant="other")).status == 200
    assert (await speak("GET", "/healthz", tenant="acme")).status == 200
    assert shards.redis.exists("fleet:{0}:rate:acme")
    end = time.monotonic() + 10
    while (await speak("GET", "/v1/nodes", tenant="acme")).status == 429:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


async def test_a_batch_is_as_many_requests_as_it_has_jobs(speak: Speaker) -> None:
    await limit(speak, requests_per_s=5)
    await speak.refused("POST", "/v1/jobs:batch", {"jobs": [JOB] * 6}, 429, tenant="acme")
    assert (await speak("POST", "/v1/jobs:batch", {"jobs": [JOB] * 4}, tenant="acme")).status == 200


async def test_a_name_that_is_none_is_told_as_ever(speak: Speaker) -> None:
    await limit(speak, requests_per_s=5)
    await speak.refused("GET", "/v1/nodes", None, 422, "X-Fleet-Tenant", tenant="a b")


async def test_who_has_no_such_quota_asks_redis_nothing(speak: Speaker, client: redis.Redis) -> None:
    await limit(speak, "other", requests_per_s=5)
    client.config_resetstat()
    for tenant, asked in (("acme", False), ("other", True)):
        await speak("GET", "/v1/nodes", tenant=tenant)
        stats: Any = client.info("commandstats")
        assert ("cmdstat_evalsha" in stats) == asked
