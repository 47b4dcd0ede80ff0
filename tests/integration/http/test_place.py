"""POST /v1/jobs: placed, refused, repeated."""

import msgspec
import pytest

from scheduler.settings import Settings
from tests.integration.http.conftest import Speaker, ready, running
from tests.sharded import Shards

JOB = {"requires": ["asr:zh"]}


async def test_a_job_is_placed_on_a_node_that_offers_what_it_requires(speak: Speaker, shards: Shards) -> None:
    await speak.register("n1")
    told = await speak("POST", "/v1/jobs", JOB)
    assert (told.status, told.kind) == (201, speak.kind)
    job, placement = told.body["job"], told.body["placement"]
    assert job["node"] == {"id": "n1", "endpoint": "http://n1.example:9000"}
    assert (job["state"], job["pool"], job["attempt"]) == ("claimed", "default", 1)
    assert placement["fallback_used"] is False
    assert placement["snapshot_age_ms"] >= 0
    assert told.headers["location"] == f"/v1/jobs/{job['id']}"
    held = shards.redis.hgetall(shards.job(job["id"]))
    assert (held[b"node"], held[b"fence"]) == (b"n1", str(job["fence"]).encode())
    assert shards.redis.zscore(f"{shards.node('n1')}:leases", job["id"]) is not None


async def test_ids_made_here_carry_the_shard_and_differ(speak: Speaker, shards: Shards) -> None:
    await speak.register("n1")
    ids = {(await speak("POST", "/v1/jobs", JOB)).body["job"]["id"] for _ in range(4)}
    assert len(ids) == 4
    shard, dot, _ = shards.of_node("n1").removeprefix("fleet:{").partition("}")
    assert dot
    assert all(name.startswith(f"{shard}.") and len(name) == len(shard) + 33 for name in ids)


async def test_the_same_id_and_body_again_answers_200_with_the_same_placement(speak: Speaker) -> None:
    await speak.register("n1")
    body = JOB | {"id": "a", "payload": {"x": [1, 2.5, None, "é"]}, "exclude": ["n8", "n9"]}
    first = await speak("POST", "/v1/jobs", body, tenant="acme")
    again = await speak("POST", "/v1/jobs", body | {"exclude": ["n9", "n8"]}, tenant="acme")
    assert (first.status, again.status) == (201, 200)
    assert again.body == {"job": first.body["job"]}
    assert first.body["job"]["id"] == "acme:a"
    assert "location" not in again.headers


async def test_white_space_and_format_do_not_make_another_body(speak: Speaker) -> None:
    await speak.register("n1")
    body = JOB | {"id": "a", "payload": {"x": [1, "é"]}}
    assert (await speak("POST", "/v1/jobs", body)).status == 201
    spaced = b'{"payload" : {"x": [ 1 , "\xc3\xa9"]}, "id":"a", "requires":["asr:zh"]}'
    assert (await speak.raw("POST", "/v1/jobs", spaced, kind="application/json")).status == 200
    packed = msgspec.msgpack.encode(body)
    assert (await speak.raw("POST", "/v1/jobs", packed, kind="application/msgpack")).status == 200


@pytest.mark.parametrize(
    "other",
    [{"priority": 6}, {"payload": 1}, {"payload": None}, {"session": "s"}, {"timeout_ms": 5}, {"exclude": ["n9"]}],
)
async def test_the_same_id_with_another_body_is_409(speak: Speaker, other: dict[str, object]) -> None:
    await speak.register("n1")
    assert (await speak("POST", "/v1/jobs", JOB | {"id": "a"})).status == 201
    await speak.refused("POST", "/v1/jobs", JOB | {"id": "a"} | other, 409, "id")
    assert (await speak("POST", "/v1/jobs", JOB | {"id": "a"} | other, tenant="other")).status == 201


@pytest.mark.parametrize("packed", [False, True])
async def test_what_nobody_offers_is_impossible(redis_url: str, shards: Shards, packed: bool) -> None:  # noqa: FBT001
    fields = ("endpoint", "http://n1", "slots", 1, "capabilities", "asr:zh", "ttl_ms", 60_000)
    shards.fcall("node_register", "n1", *fields)
    async with running(Settings(redis_url=redis_url)) as (app, plain):
        await ready(app)
        speak = Speaker(plain, packed, app)
        told = await speak.refused("POST", "/v1/jobs", {"requires": ["asr:fr"]}, 422)
    assert told.body["class"] == "impossible"
    assert told.body["reasons"] == {"missing_capability": 1}
    assert told.body["snapshot_age_ms"] >= 0
    assert "retry-after" not in told.headers


@pytest.mark.one_shard("an emptied one of several takes no node before a replica has told it the division")
async def test_nothing_is_impossible_just_after_redis_was_emptied(speak: Speaker, shards: Shards) -> None:
    await speak.register("n1")
    await speak.followed()
    for key in shards.everything():
        shards.redis.delete(key)
    await speak.register("n2")
    await speak.followed()
    told = await speak.refused("POST", "/v1/jobs", {"requires": ["asr:fr"]}, 503)
    assert told.body["class"] == "unavailable"
    assert told.body["detail"].startswith("no node offers what the job requires yet: ")
    assert int(told.headers["retry-after"]) >= 1


async def test_a_full_fleet_is_overloaded_and_says_when_to_try_again(speak: Speaker) -> None:
    await speak.register("n1", slots=1)
    assert (await speak("POST", "/v1/jobs", JOB)).status == 201
    await speak.followed()
    told = await speak.refused("POST", "/v1/jobs", JOB, 503)
    assert (told.body["class"], told.body["reasons"]) == ("overloaded", {"full": 1})
    assert int(told.headers["retry-after"]) >= 1


async def test_a_cordoned_fleet_is_unavailable(speak: Speaker) -> None:
    await speak.register("n1")
    await speak("POST", "/v1/nodes/n1/cordon")
    await speak.followed()
    told = await speak.refused("POST", "/v1/jobs", JOB, 503)
    assert (told.body["class"], told.body["reasons"]) == ("unavailable", {"cordoned": 1})
    assert int(told.headers["retry-after"]) >= 1


async def test_an_excluded_node_is_not_taken(speak: Speaker) -> None:
    await speak.register("n1")
    await speak.register("n2")
    nodes = {(await speak("POST", "/v1/jobs", JOB | {"exclude": ["n1"]})).body["job"]["node"]["id"] for _ in range(4)}
    assert nodes == {"n2"}


async def test_a_pool_that_does_not_serve_the_tenant_is_403(speak: Speaker, shards: Shards) -> None:
    await speak.register("n1")
    await speak.refused("POST", "/v1/jobs", JOB | {"pool": "gold"}, 403, "pool")
    assert shards.total("leases") == 0


PAYLOADS: list[object] = [None, True, 0, -1.5, "", "text \u2028 é \U0001f600", [], {}, {"a": [1, {"b": None}]}, 2**63]


@pytest.mark.parametrize("value", PAYLOADS)
async def test_a_payload_is_any_json_value_and_is_handed_over_as_json_text(speak: Speaker, value: object) -> None:
    await speak.register("n1")
    job = (await speak("POST", "/v1/jobs", JOB | {"payload": value})).body["job"]
    told = await speak("POST", f"/v1/jobs/{job['id']}/start", {"fence": job["fence"]})
    assert told.status == 200
    assert msgspec.json.decode(told.body["payload"]) == value


async def test_a_job_without_payload_has_none(speak: Speaker) -> None:
    await speak.register("n1")
    job = (await speak("POST", "/v1/jobs", JOB)).body["job"]
    assert (await speak("POST", f"/v1/jobs/{job['id']}/start", {"fence": job["fence"]})).body["payload"] == ""


async def test_a_payload_of_just_the_limit_is_taken_and_one_byte_more_is_not(speak: Speaker) -> None:
    await speak.register("n1")
    assert (await speak("POST", "/v1/jobs", JOB | {"payload": "x" * (262_144 - 2)})).status == 201
    told = await speak.refused("POST", "/v1/jobs", JOB | {"payload": "x" * (262_144 - 1)}, 422, "payload")
    assert "262144" in told.body["detail"]
