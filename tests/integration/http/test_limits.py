"""Bounds of what one request or one replica takes, met over HTTP."""

import pytest

from scheduler.engine import waking
from scheduler.http.pools import BODY_MAX_BYTES
from tests.integration.http.conftest import Speaker

JOB = {"requires": ["asr:zh"]}


async def test_a_batch_of_more_than_a_thousand_is_422_and_places_none(speak: Speaker) -> None:
    await speak.register("n1", slots=2_000)
    told = await speak.refused("POST", "/v1/jobs:batch", {"jobs": [JOB] * 1_001}, 422, "jobs")
    assert "1000" in told.body["detail"]
    assert (await speak("GET", "/v1/cluster")).body["leases"] == 0


async def test_more_long_polls_than_a_replica_takes_are_503(speak: Speaker) -> None:
    await speak.register("n1")
    job = (await speak("POST", "/v1/jobs", JOB)).body["job"]["id"]
    shards = speak.app.state.engine.shards
    for shard in shards:
        shard.waker.count += waking.WAITERS_MAX
    told = await speak.refused("GET", f"/v1/jobs/{job}?wait_ms=1000", None, 503)
    assert (told.body["code"], told.headers["retry-after"]) == ("overrun", "1")
    assert (await speak("GET", f"/v1/jobs/{job}")).status == 200, "who does not wait is answered"
    for shard in shards:
        shard.waker.count -= waking.WAITERS_MAX
    assert (await speak("GET", f"/v1/jobs/{job}?wait_ms=10")).status == 200


@pytest.mark.parametrize(("size", "status"), [(262_144, 200), (262_145, 422)])
async def test_a_result_of_just_the_limit_is_taken_and_one_byte_more_is_not(
    speak: Speaker, size: int, status: int
) -> None:
    await speak.register("n1")
    job = (await speak("POST", "/v1/jobs", JOB)).body["job"]
    body = {"fence": job["fence"], "outcome": "succeeded", "result": "r" * size}
    assert (await speak("POST", f"/v1/jobs/{job['id']}/finish", body)).status == status


async def test_a_long_configuration_of_a_pool_is_refused_before_anything_looks_into_it(speak: Speaker) -> None:
    body = {"selector": {"capabilities": ["a"]}, "tenants": [f"t{number:06}" for number in range(1_000)]}
    told = await speak.refused("PUT", "/v1/pools/gold", body, 422, "body")
    assert str(BODY_MAX_BYTES) in told.body["detail"]
