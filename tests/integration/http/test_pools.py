"""The routes of pools, and which nodes a tenant sees."""

from typing import Any

import msgspec
import pytest
import redis

from tests.integration.http.conftest import JSON, MSGPACK, Speaker
from tests.lua.refusals import ODD_POOLS

ALL: dict[str, Any] = {"selector": {"all": True}}
GOLD: dict[str, Any] = {
    "selector": {"capabilities": ["gpu"], "labels": {"tier": "gold"}},
    "tenants": ["acme"],
    "fallback": ["rest"],
    "strategy": "pack",
    "priority": 5,
    "d": 2,
}
DEFAULTS: dict[str, Any] = {
    "tenants": ["*"], "fallback": [], "strategy": "spread", "priority": 0, "d": None, "languages": [],
}  # fmt: skip
JOB = {"requires": ["gpu"]}


async def register(speak: Speaker, node: str, tier: str = "none", slots: int = 1, *capabilities: str) -> int:
    body = {"endpoint": f"http://{node}", "slots": slots, "capabilities": ["gpu", *capabilities], "ttl_ms": 60_000}
    told = await speak("PUT", f"/v1/nodes/{node}", body | {"labels": {"tier": tier}})
    assert told.status == 201
    return int(told.body["incarnation"])


async def beat(speak: Speaker, node: str, incarnation: int) -> None:
    assert (await speak("POST", f"/v1/nodes/{node}/heartbeat", {"incarnation": incarnation})).status == 200


def stored(client: redis.Redis) -> dict[Any, Any]:
    """All that a refusal must leave as it is."""
    held: Any = client.hgetall("fleet:{0}:pools")
    return {"pools": held, "version": client.hget("fleet:{0}", "config_version")}


async def test_without_a_configuration_the_default_pool_is_told(speak: Speaker) -> None:
    await register(speak, "n1")
    told = await speak("GET", "/v1/pools")
    assert (told.status, told.kind) == (200, speak.kind)
    pool = {"name": "default", "selector": {"all": True}, **DEFAULTS, "members": 1, "free": 1}
    assert told.body == {"pools": [pool], "config_version": 0}
    assert (await speak("GET", "/v1/pools/default")).body == {"pool": pool, "config_version": 0}


async def test_a_put_answers_what_is_stored_with_its_version(speak: Speaker, client: redis.Redis) -> None:
    assert (await speak("PUT", "/v1/pools/rest", ALL)).status == 200
    told = await speak("PUT", "/v1/pools/gold", GOLD)
    assert (told.status, told.kind) == (200, speak.kind)
    version = int(client.hget("fleet:{0}", "config_version") or 0)
    pool = {"name": "gold", **GOLD, "languages": [], "members": 0, "free": 0}
    assert told.body == {"pool": pool, "config_version": version}
    assert (await speak("GET", "/v1/pools/gold")).body == told.body
    assert (await speak("PUT", "/v1/pools/gold", GOLD)).body == told.body, "the same again keeps the version"
    listed = (await speak("GET", "/v1/pools")).body
    rest = {"name": "rest", **ALL, **DEFAULTS, "members": 0, "free": 0}
    assert listed == {"pools": [pool, rest], "config_version": version}


async def test_members_and_free_ones_are_counted_as_redis_has_them(speak: Speaker) -> None:
    await speak("PUT", "/v1/pools/gold", ALL)
    for node in ("n1", "n2", "n3"):
        await register(speak, node)
    await speak("POST", "/v1/nodes/n1/cordon")
    assert (await speak("POST", "/v1/jobs", JOB)).status == 201
    pool = (await speak("GET", "/v1/pools/gold")).body["pool"]
    assert (pool["members"], pool["free"]) == (3, 1)


async def test_a_pool_that_is_not_sound_is_422_with_its_field_and_changes_nothing(
    speak: Speaker, client: redis.Redis
) -> None:
    await speak("PUT", "/v1/pools/silver", ALL)
    before = stored(client)
    for wrong, field in ODD_POOLS:
        if not isinstance(wrong, str):
            await speak.refused("PUT", "/v1/pools/gold", wrong, 422, "body" if field == "json" else field)
            assert stored(client) == before


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"tenants": {}}, "tenants"),
        ({"fallback": {}}, "fallback"),
        ({"selector": []}, "selector"),
        ({"selector": {"all": True, "capabilities": {}}}, "selector.capabilities"),
        ({"selector": {"all": True, "labels": []}}, "selector.labels"),
    ],
)
async def test_an_empty_object_is_no_empty_list_nor_the_reverse(
    speak: Speaker, wrong: dict[str, object], field: str
) -> None:
    """The function's own decoder makes one thing of both."""
    await speak.refused("PUT", "/v1/pools/gold", ALL | wrong, 422, field)


async def test_a_cycle_and_a_pool_too_many_are_422(speak: Speaker, client: redis.Redis) -> None:
    await speak("PUT", "/v1/pools/a", ALL)
    await speak("PUT", "/v1/pools/b", ALL | {"fallback": ["a"]})
    told = await speak.refused("PUT", "/v1/pools/a", ALL | {"fallback": ["b"]}, 422, "fallback")
    assert "cycle" in told.body["detail"]
    text = '{"selector":{"all":true}}'
    client.hset("fleet:{0}:pools", mapping={f"p{number}": text for number in range(198)})
    client.hincrby("fleet:{0}", "config_version", 1)
    await speak.refused("PUT", "/v1/pools/one-more", ALL, 422, "pool")


@pytest.mark.parametrize("body", [None, [], [ALL], "text", 7, True])
async def test_a_body_that_is_no_object_is_422(speak: Speaker, body: object) -> None:
    encoded = msgspec.msgpack.encode(body) if speak.packed else msgspec.json.encode(body)
    speak.problem(await speak.raw("PUT", "/v1/pools/gold", encoded), 422, "body")


async def test_a_broken_body_another_type_and_one_too_large_are_refused(speak: Speaker) -> None:
    broken = [b"", b"\x81", b"\xc1"] if speak.packed else [b"", b"{", b"\xff", b'{"d":NaN}', b"{} {}"]
    for raw in broken:
        speak.problem(await speak.raw("PUT", "/v1/pools/gold", raw), 400, "body")
    speak.problem(await speak.raw("PUT", "/v1/pools/gold", b"{}", kind="text/plain"), 415)
    speak.problem(await speak.raw("PUT", "/v1/pools/gold", b" " * 1_048_577), 413, "body")
    wide = ALL | {"tenants": ["x" * 9_000]}
    await speak.refused("PUT", "/v1/pools/gold", wide, 422, "body")


@pytest.mark.parametrize("value", [b"gpu", {1: 2}, float("nan"), msgspec.msgpack.Ext(5, b"x")])
async def test_a_msgpack_pool_that_json_cannot_hold_is_422(speak: Speaker, value: object) -> None:
    packed = msgspec.msgpack.encode({"selector": {"capabilities": [value]}})
    speak.problem(await speak.raw("PUT", "/v1/pools/gold", packed, kind=MSGPACK), 422, "body")


async def test_json_and_msgpack_put_the_same(speak: Speaker) -> None:
    await speak("PUT", "/v1/pools/rest", ALL)
    version = (await speak("PUT", "/v1/pools/gold", GOLD)).body["config_version"]
    for kind, raw in ((JSON, msgspec.json.encode(GOLD)), (MSGPACK, msgspec.msgpack.encode(GOLD))):
        assert (await speak.raw("PUT", "/v1/pools/gold", raw, kind=kind)).body["config_version"] == version


async def test_a_removed_pool_is_gone(speak: Speaker) -> None:
    await speak("PUT", "/v1/pools/gold", ALL)
    told = await speak("DELETE", "/v1/pools/gold")
    assert (told.status, told.kind, told.body) == (200, speak.kind, {"outcome": "removed"})
    await speak.refused("GET", "/v1/pools/gold", None, 404)
    await speak.refused("DELETE", "/v1/pools/gold", None, 404)
    assert (await speak("GET", "/v1/pools")).body["pools"] == [], "nor does the default pool come back"


async def test_a_fallback_of_another_is_not_removed(speak: Speaker) -> None:
    await speak("PUT", "/v1/pools/rest", ALL)
    await speak("PUT", "/v1/pools/gold", ALL | {"fallback": ["rest"]})
    told = await speak.refused("DELETE", "/v1/pools/rest", None, 422, "pool")
    assert "gold" in told.body["detail"]
    assert (await speak("GET", "/v1/pools/rest")).status == 200


async def test_an_odd_name_is_422_and_an_unknown_one_404(speak: Speaker) -> None:
    for method, body in (("GET", None), ("PUT", ALL), ("DELETE", None)):
        for name in ("a%20b", "a:b", "-a", "x" * 65, "%C3%A9"):
            await speak.refused(method, f"/v1/pools/{name}", body, 422, "pool")
    await speak.refused("GET", "/v1/pools/gold", None, 404)
    await speak.refused("DELETE", "/v1/pools/default", None, 404)


async def test_the_next_job_is_placed_by_the_new_pools(speak: Speaker) -> None:
    await register(speak, "n1", "gold")
    await register(speak, "n2", "rest")
    await speak("PUT", "/v1/pools/gold", {"selector": {"labels": {"tier": "gold"}}, "tenants": ["acme"]})
    await speak("PUT", "/v1/pools/rest", {"selector": {"labels": {"tier": "rest"}}})
    await speak.followed()
    mine = await speak("POST", "/v1/jobs", JOB, tenant="acme")
    assert (mine.status, mine.body["job"]["node"]["id"], mine.body["job"]["pool"]) == (201, "n1", "gold")
    other = await speak("POST", "/v1/jobs", JOB, tenant="other")
    assert (other.status, other.body["job"]["node"]["id"], other.body["job"]["pool"]) == (201, "n2", "rest")
    await speak.refused("POST", "/v1/jobs", JOB | {"pool": "gold"}, 403, "pool", tenant="other")


async def test_an_automatic_pool_is_told_with_its_languages(speak: Speaker) -> None:
    functions = speak.app.state.engine.first.functions
    await functions.pools_apply(0, '{"language_pools":{"tenants":["acme"]}}')
    await speak.followed()
    await register(speak, "n1", "none", 1, "semantic:en", "semantic:de")
    pool = (await speak("GET", "/v1/pools/de-en")).body["pool"]
    assert (pool["languages"], pool["tenants"], pool["selector"], pool["members"]) == (["de", "en"], ["acme"], {}, 1)
    await speak.refused("DELETE", "/v1/pools/de-en", None, 422, "pool")
    await speak.followed()
    # 503 while the shard is new and its nodes may still be coming back
    assert (await speak("POST", "/v1/jobs", JOB, tenant="acme")).status in {422, 503}, "a request without languages"
    assert (await speak("POST", "/v1/jobs", JOB | {"pool": "de-en"}, tenant="acme")).status == 201
    await register(speak, "n2", "none", 1, "semantic:en", "semantic:de")
    spoken = {"services": ["semantic"], "src": "de"}
    told = (await speak("POST", "/v1/jobs", spoken, tenant="acme")).body
    assert (told["job"]["pool"], told["job"]["node"]["id"]) == ("de-en", "n2")


async def ids(speak: Speaker, tenant: str, query: str = "") -> list[str]:
    told = await speak("GET", f"/v1/nodes{query}", tenant=tenant)
    assert told.status == 200
    return [node["id"] for node in told.body["nodes"]]


async def test_a_tenant_sees_the_nodes_of_its_pools_only(speak: Speaker) -> None:
    await speak("PUT", "/v1/pools/gold", {"selector": {"labels": {"tier": "gold"}}, "tenants": ["acme"]})
    await speak("PUT", "/v1/pools/rest", {"selector": {"labels": {"tier": "rest"}}})
    for node, tier in (("n1", "gold"), ("n2", "rest"), ("n3", "none")):
        await register(speak, node, tier)
    assert await ids(speak, "acme") == ["n1", "n2"]
    assert await ids(speak, "other") == ["n2"]
    assert (await speak("GET", "/v1/nodes/n1", tenant="acme")).status == 200
    await speak.refused("GET", "/v1/nodes/n1", None, 404, tenant="other")
    await speak.refused("GET", "/v1/nodes/n3", None, 404, tenant="acme")
    for path in ("/v1/nodes", "/v1/nodes/n1"):
        await speak.refused("GET", path, None, 422, "X-Fleet-Tenant", tenant="a b")


async def test_pages_of_a_tenant_go_over_foreign_nodes(speak: Speaker) -> None:
    await speak("PUT", "/v1/pools/gold", {"selector": {"labels": {"tier": "gold"}}, "tenants": ["acme"]})
    for number in range(9):
        await register(speak, f"n{number}", "gold" if number % 2 else "none")
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        told = await speak("GET", f"/v1/nodes?limit=3&after={after}", tenant="acme")
        assert len(told.body["nodes"]) in {1, 3}
        seen += [node["id"] for node in told.body["nodes"]]
        after = told.body["cursor"]
    assert seen == ["n1", "n3", "n5", "n7"]
    assert (await speak("GET", "/v1/nodes?limit=4", tenant="acme")).body["cursor"] is None
    assert (await speak("GET", "/v1/nodes", tenant="other")).body == {"nodes": [], "cursor": None}


async def test_a_node_is_foreign_as_soon_as_it_has_left_the_tenants_pools(speak: Speaker) -> None:
    await speak("PUT", "/v1/pools/gold", {"selector": {"labels": {"tier": "gold"}}, "tenants": ["acme"]})
    incarnation = await register(speak, "n1", "gold")
    assert await ids(speak, "acme") == ["n1"]
    body = {"incarnation": incarnation, "labels": {"tier": "none"}}
    assert (await speak("POST", "/v1/nodes/n1/heartbeat", body)).status == 200
    assert await ids(speak, "acme") == []
    await speak.refused("GET", "/v1/nodes/n1", None, 404, tenant="acme")


async def test_a_tenant_is_shut_out_of_a_pool_from_the_next_read_on(speak: Speaker) -> None:
    await speak("PUT", "/v1/pools/gold", ALL | {"tenants": ["acme"]})
    incarnation = await register(speak, "n1")
    await speak("PUT", "/v1/pools/gold", ALL | {"tenants": ["other"]})
    assert await ids(speak, "acme") == []
    await beat(speak, "n1", incarnation)
    assert (await ids(speak, "acme"), await ids(speak, "other")) == ([], ["n1"])


async def test_operations_by_id_are_not_bound_to_a_tenant(speak: Speaker) -> None:
    await speak("PUT", "/v1/pools/gold", ALL | {"tenants": ["acme"]})
    await register(speak, "n1")
    for verb in ("cordon", "uncordon", "drain"):
        assert (await speak("POST", f"/v1/nodes/n1/{verb}", tenant="other")).status == 200
    assert (await speak("DELETE", "/v1/nodes/n1", tenant="other")).status == 200
