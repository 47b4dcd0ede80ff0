"""Every door names the field and the limit, and changes nothing in Redis."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from tests.integration.http.conftest import JSON, MSGPACK, Speaker
from tests.sharded import Shards

JOB: dict[str, Any] = {"requires": ["asr:zh"]}
NODE: dict[str, Any] = {"endpoint": "http://n1:9000", "slots": 1, "capabilities": ["asr:zh"]}
SPEECH: dict[str, Any] = {"service": "asr", "languages": ["zh"]}
# 40 languages of which one pair is blocked: 1,559 pairs
MANY: dict[str, Any] = {
    "service": "nmt",
    "rule": "any_to_any",
    "languages": [f"{a}{b}x" for a in "abcd" for b in "abcdefghij"],
    "blocked": ["aax>abx"],
}
NAN, INFINITY = float("nan"), float("inf")

BAD_JOBS: list[tuple[dict[str, Any], str, str]] = [
    ({"requires": []}, "requires", ">= 1"),
    ({"requires": "asr:zh"}, "requires", "array"),
    ({"requires": ["a b"]}, "requires[0]", "127"),
    ({"requires": ["asr:zh\n"]}, "requires[0]", "127"),
    ({"requires": ["a", "x" * 129]}, "requires[1]", "128"),
    ({"requires": [f"t{i}" for i in range(65)]}, "requires", "64"),
    ({"id": ""}, "id", "63"),
    ({"id": "a:b"}, "id", "63"),
    ({"id": "a\n"}, "id", "63"),
    ({"id": "x" * 65}, "id", "64"),
    ({"session": "s" * 129}, "session", "128"),
    ({"session": "a b"}, "session", "127"),
    ({"affinity": "always"}, "affinity", "always"),
    ({"pool": "a/b"}, "pool", "63"),
    ({"exclude": ["n1", "é"]}, "exclude[1]", "63"),
    ({"exclude": ["n1"] * 65}, "exclude", "64"),
    ({"fallback": 1}, "fallback", "bool"),
    ({"deliver": "post"}, "deliver", "post"),
    ({"priority": -1}, "priority", "0"),
    ({"priority": 10}, "priority", "9"),
    ({"priority": 2**63}, "priority", "9"),
    ({"priority": 5.5}, "priority", "int"),
    ({"ack_ms": 0}, "ack_ms", "1"),
    ({"ack_ms": 86_400_001}, "ack_ms", "86400000"),
    ({"timeout_ms": -(2**62)}, "timeout_ms", "1"),
    ({"wait_ms": 86_400_001}, "wait_ms", "86400000"),
    ({"wait_ms": -1}, "wait_ms", "0"),
    ({"max_attempts": 0}, "max_attempts", "1"),
    ({"max_attempts": 101}, "max_attempts", "100"),
    ({"retry_failed": "yes"}, "retry_failed", "bool"),
    ({"colour": "red"}, "colour", "unknown"),
    ({"services": []}, "services", ">= 1"),
    ({"services": ["asr"] * 33, "src": "zh"}, "services", "32"),
    ({"services": "asr"}, "services", "array"),
    ({"services": ["asr", "ocr"], "src": "zh"}, "services[1]", "asr, nmt, semantic, tts"),
    ({"services": ["asr"]}, "src", "asr"),
    ({"services": ["tts"], "src": "zh"}, "tgt", "tts"),
    ({"services": ["asr"], "src": "chinese"}, "src", "35"),
    ({"services": ["asr"], "src": 5}, "src", "str"),
    ({"services": ["tts"], "tgt": "auto"}, "tgt", "src of a request only"),
    ({"services": ["nmt"], "src": "zh-CN", "tgt": "cmn"}, "tgt", "leave nmt out"),
    ({"src": "z"}, "src", "35"),
    ({"tgt": "e" * 36}, "tgt", "35"),
    ({"requires": [f"t{i}" for i in range(64)], "services": ["asr"], "src": "zh"}, "requires", "64"),
]


def keyspace(shards: Shards) -> dict[str, bytes]:
    """Every key but the shards' meta, whose clocks move by themselves."""
    return {name: held for name, held in shards.everything().items() if name not in shards.keys}


@pytest.mark.parametrize(("wrong", "field", "limit"), BAD_JOBS)
async def test_a_job_with_a_bad_field_is_422_and_changes_nothing(
    speak: Speaker, shards: Shards, wrong: dict[str, Any], field: str, limit: str
) -> None:
    await speak.register("n1")
    before = keyspace(shards)
    told = await speak.refused("POST", "/v1/jobs", JOB | wrong, 422, field)
    assert limit in told.body["detail"]
    assert keyspace(shards) == before


async def test_a_job_that_needs_nothing_is_told_so(speak: Speaker) -> None:
    await speak.refused("POST", "/v1/jobs", {}, 422, "requires")
    await speak.refused("POST", "/v1/jobs", {"requires": None, "src": "zh", "tgt": "en"}, 422, "requires")
    await speak.refused("POST", "/v1/jobs", [], 422, "body")


@pytest.mark.parametrize("tenant", ["", "a b", "x" * 65, "-a", "a:b"])
async def test_a_tenant_that_is_no_id_is_422(speak: Speaker, tenant: str) -> None:
    told = await speak.refused("POST", "/v1/jobs", JOB, 422, "X-Fleet-Tenant", tenant=tenant)
    assert "64" in told.body["detail"]


BAD_NODES: list[tuple[dict[str, Any], str]] = [
    ({"slots": 0}, "slots"),
    ({"slots": 1_000_001}, "slots"),
    ({"slots": 2**64 - 1}, "slots"),
    ({"slots": 1.5}, "slots"),
    ({"endpoint": ""}, "endpoint"),
    ({"endpoint": "x" * 513}, "endpoint"),
    ({"endpoint": "http://a b"}, "endpoint"),
    ({"capabilities": []}, "capabilities"),
    ({"capabilities": ["a b"]}, "capabilities[0]"),
    ({"capabilities": [f"t{i}" for i in range(1_025)]}, "capabilities"),
    ({"services": {}}, "services"),
    ({"services": [{"service": "asr", "languages": ["zh"]}] * 33}, "services"),
    ({"services": [{"languages": ["zh"]}]}, "services[0].service"),
    ({"services": [{"service": "ocr", "languages": ["zh"]}]}, "services[0].service"),
    ({"services": [{"service": "asr"}]}, "services[0].languages"),
    ({"services": [{"service": "asr", "languages": []}]}, "services[0].languages"),
    ({"services": [{"service": "asr", "languages": ["zh"] * 513}]}, "services[0].languages"),
    ({"services": [{"service": "asr", "languages": ["zh", "chinese"]}]}, "services[0].languages[1]"),
    ({"services": [{"service": "asr", "languages": ["auto"]}]}, "services[0].languages[0]"),
    ({"services": [{"service": "asr", "languages": ["zh"], "rule": "pairs"}]}, "services[0].rule"),
    ({"services": [{"service": "asr", "languages": ["zh"], "ready": 1}]}, "services[0].ready"),
    ({"services": [{"service": "nmt", "languages": ["zh"]}]}, "services[0].rule"),
    ({"services": [{"service": "nmt", "rule": "any", "languages": ["zh"]}]}, "services[0].rule"),
    ({"services": [{"service": "nmt", "rule": "any_to_en"}]}, "services[0].languages"),
    ({"services": [{"service": "nmt", "rule": "pairs", "pairs": ["zh"]}]}, "services[0].pairs[0]"),
    ({"capabilities": [f"t{i}" for i in range(1_024)], "services": [SPEECH]}, "capabilities"),
    ({"capabilities": [], "services": [SPEECH | {"ready": False}]}, "capabilities"),
    ({"capabilities": None}, "capabilities"),
    ({"services": [MANY]}, "services"),
    ({"labels": {"a": "x y=z"}}, "labels[...]"),
    ({"labels": {f"l{i}": "" for i in range(65)}}, "labels"),
    ({"cpu": -0.1}, "cpu"),
    ({"gpu": 100.1}, "gpu"),
    ({"mem_max": 1e300}, "mem_max"),
    ({"ttl_ms": 99}, "ttl_ms"),
    ({"ttl_ms": 3_600_001}, "ttl_ms"),
    ({"state": "ready"}, "state"),
]


@pytest.mark.parametrize(("wrong", "field"), BAD_NODES)
async def test_a_registration_with_a_bad_field_is_422_and_changes_nothing(
    speak: Speaker, shards: Shards, wrong: dict[str, Any], field: str
) -> None:
    before = keyspace(shards)
    await speak.refused("PUT", "/v1/nodes/n1", NODE | wrong, 422, field)
    assert keyspace(shards) == before


async def test_a_registration_of_too_many_tokens_is_told_the_limit_and_the_count(speak: Speaker) -> None:
    told = await speak.refused("PUT", "/v1/nodes/n1", NODE | {"services": [MANY]}, 422, "services")
    assert told.body["detail"] == "services give at least 1559 tokens, a node may offer at most 1024"


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY])
async def test_a_load_that_is_no_number_is_422_in_msgpack_and_no_json_at_all(speak: Speaker, value: float) -> None:
    packed = msgspec.msgpack.encode(NODE | {"cpu": value})
    told = await speak.raw("PUT", "/v1/nodes/n1", packed, kind=MSGPACK)
    speak.problem(told, 422, "cpu")
    spelled = b'{"endpoint":"http://n1:9000","slots":1,"capabilities":["a"],"cpu":%s}'
    speak.problem(await speak.raw("PUT", "/v1/nodes/n1", spelled % b"NaN", kind=JSON), 400, "body")
    speak.problem(await speak.raw("PUT", "/v1/nodes/n1", spelled % b"1e999", kind=JSON), 422, "cpu")


BAD_BEATS: list[tuple[dict[str, Any], str]] = [
    ({"incarnation": 0}, "incarnation"),
    ({"incarnation": 2**53 + 1}, "incarnation"),
    ({"incarnation": "1"}, "incarnation"),
    ({"cpu": 101}, "cpu"),
    ({"slots": 0}, "slots"),
    ({"capabilities": ["é"]}, "capabilities[0]"),
    ({"capabilities": []}, "capabilities"),
    ({"services": []}, "capabilities"),
    ({"services": [SPEECH | {"ready": False}]}, "capabilities"),
    ({"services": [SPEECH, SPEECH | {"languages": ["?"]}]}, "services[1].languages[0]"),
    ({"running": [{"job": "x 5 y", "fence": 7}]}, "running[0].job"),
    ({"running": [{"job": "x", "fence": 0}]}, "running[0].fence"),
    ({"running": [{"job": "x", "fence": 1}] * 1_001}, "running"),
]


@pytest.mark.parametrize(("wrong", "field"), BAD_BEATS)
async def test_a_heartbeat_with_a_bad_field_is_422(speak: Speaker, wrong: dict[str, Any], field: str) -> None:
    incarnation = await speak.register("n1")
    await speak.refused("POST", "/v1/nodes/n1/heartbeat", {"incarnation": incarnation} | wrong, 422, field)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/jobs/x/start", {"fence": 0}, "fence"),
        ("/v1/jobs/x/start", {"fence": -1}, "fence"),
        ("/v1/jobs/x/start", {"fence": 2**60}, "fence"),
        ("/v1/jobs/x/start", {}, "fence"),
        ("/v1/jobs/x/finish", {"fence": 1, "outcome": "done"}, "outcome"),
        ("/v1/jobs/x/finish", {"fence": 1}, "outcome"),
        ("/v1/jobs/x/finish", {"fence": 1, "outcome": "failed", "result": 5}, "result"),
        ("/v1/jobs/x/finish", {"fence": 1, "outcome": "failed", "result": "x" * 262_145}, "result"),
        ("/v1/jobs/a%20b/start", {"fence": 1}, "job"),
        ("/v1/jobs/a:b:c/finish", {"fence": 1, "outcome": "failed"}, "job"),
        ("/v1/jobs/-x/cancel", None, "job"),
        ("/v1/nodes/n1/drain", {"drain_ms": -1}, "drain_ms"),
        ("/v1/nodes/n1/drain", {"drain_ms": 86_400_001}, "drain_ms"),
        ("/v1/nodes/a%20b/cordon", None, "node"),
        ("/v1/nodes/a:b/uncordon", None, "node"),
        ("/v1/jobs:batch", {"jobs": []}, "jobs"),
        ("/v1/jobs:batch", {"jobs": [JOB] * 1_001}, "jobs"),
        ("/v1/jobs:batch", {"jobs": JOB}, "jobs"),
        ("/v1/jobs:batch", {}, "jobs"),
    ],
)
async def test_every_other_body_is_checked_too(speak: Speaker, path: str, body: object, field: str) -> None:
    await speak.refused("POST", path, body, 422, field)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/nodes?limit=0", "limit"),
        ("/v1/nodes?limit=201", "limit"),
        ("/v1/nodes?limit=-1", "limit"),
        ("/v1/nodes?limit=1e2", "limit"),
        ("/v1/nodes?limit=%D9%A3", "limit"),
        ("/v1/nodes?limit=" + "9" * 5_000, "limit"),
        ("/v1/nodes?after=a%20b", "after"),
        ("/v1/nodes/" + "x" * 65, "node"),
        ("/v1/jobs/x?wait_ms=60001", "wait_ms"),
        ("/v1/jobs/x?wait_ms=-1", "wait_ms"),
        ("/v1/jobs/x?wait_ms=NaN", "wait_ms"),
        ("/v1/jobs/" + "x" * 65, "job"),
    ],
)
async def test_every_query_and_path_is_checked(speak: Speaker, path: str, field: str) -> None:
    await speak.refused("GET", path, None, 422, field)


DOORS = [
    ("POST", "/v1/jobs"),
    ("POST", "/v1/jobs:batch"),
    ("POST", "/v1/jobs/x/start"),
    ("POST", "/v1/jobs/x/finish"),
    ("PUT", "/v1/nodes/n1"),
    ("POST", "/v1/nodes/n1/heartbeat"),
    ("POST", "/v1/nodes/n1/drain"),
]
BROKEN = {
    JSON: [b"{", b"nul", b"\xff", b"{'fence':1}", b'{"fence"'],
    MSGPACK: [b"\x81", b"\xc1", b"\x81\xa5fen", b"\xdf\xff\xff\xff\xff"],
}


@pytest.mark.parametrize(("method", "path"), DOORS)
async def test_a_broken_body_is_400(speak: Speaker, method: str, path: str) -> None:
    for broken in BROKEN[speak.kind]:
        speak.problem(await speak.raw(method, path, broken), 400, "body")


@pytest.mark.parametrize(("method", "path"), DOORS[:-1])
async def test_an_empty_body_is_400(speak: Speaker, method: str, path: str) -> None:
    speak.problem(await speak.raw(method, path, b""), 400, "body")


@pytest.mark.parametrize(("method", "path"), DOORS)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_another_content_type_is_415(speak: Speaker, method: str, path: str, kind: str) -> None:
    told = speak.problem(await speak.raw(method, path, b"{}", kind=kind), 415)
    assert JSON in told.body["detail"]
    assert MSGPACK in told.body["detail"]


@pytest.mark.parametrize(("method", "path"), DOORS)
async def test_a_body_over_the_limit_is_413_by_its_length_and_by_its_size(
    speak: Speaker, method: str, path: str
) -> None:
    limit = 1_048_576
    told = speak.problem(await speak.raw(method, path, b" " * (limit + 1)), 413, "body")
    assert str(limit) in told.body["detail"]
    sent = 0

    async def stream() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(64):
            sent += 65_536
            yield b" " * 65_536

    speak.problem(await speak.raw(method, path, stream()), 413, "body")
    assert sent == 17 * 65_536, "the rest of the stream is not read"
    # as many spaces are no JSON, and the number 32 with much behind it in msgpack
    just = await speak.raw(method, path, b" " * limit)
    speak.problem(just, 422 if speak.packed else 400, "body")


async def test_a_declared_length_is_believed_before_the_body_is_read(speak: Speaker) -> None:
    for length in ("1048577", "9" * 30):
        headers = {"content-type": JSON, "accept": speak.kind, "content-length": length}
        response = await speak.client.post("/v1/jobs", content=b"{}", headers=headers)
        assert response.status_code == 413


@pytest.mark.parametrize("value", [b"\x01", NAN, {1: 2}, [[INFINITY]], msgspec.msgpack.Ext(5, b"x")])
async def test_a_msgpack_payload_that_json_cannot_hold_is_422(speak: Speaker, shards: Shards, value: object) -> None:
    before = keyspace(shards)
    packed = msgspec.msgpack.encode(JOB | {"payload": value})
    speak.problem(await speak.raw("POST", "/v1/jobs", packed, kind=MSGPACK), 422, "payload")
    assert keyspace(shards) == before


async def test_a_json_payload_that_is_not_utf8_is_422(speak: Speaker) -> None:
    raw = b'{"requires":["asr:zh"],"payload":"\xff"}'
    speak.problem(await speak.raw("POST", "/v1/jobs", raw, kind=JSON), 422, "payload")
    named = b'{"requires":["asr:zh"],"id":"a","payload":"\xff"}'
    speak.problem(await speak.raw("POST", "/v1/jobs", named, kind=JSON), 422, "payload")


async def test_an_unknown_path_is_404_and_a_wrong_method_405_as_problems(speak: Speaker) -> None:
    await speak.refused("GET", "/v2/jobs", None, 404)
    await speak.refused("GET", "/v1/nodes/", None, 404)
    told = await speak.refused("PATCH", "/v1/nodes/n1", None, 405)
    assert {word.strip() for word in told.headers["allow"].split(",")} == {"GET", "HEAD", "PUT", "DELETE"}
    await speak.refused("GET", "/v1/jobs", None, 405)
