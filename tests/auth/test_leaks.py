"""What a tenant is told by any route has no word of another tenant in it."""

import asyncio
import json
import re

import pytest

from scheduler.domain.ids import Tenant
from scheduler.engine.subscription import Wanted
from scheduler.errors import Overrun
from tests.auth.conftest import Fleet, bearer
from tests.auth.test_matrix import subject

BODY = {"requires": ["asr:zh"]}


async def test_lists_verdicts_refusals_and_errors_name_nothing_of_another_tenant(two_tenants: Fleet) -> None:
    fleet = two_tenants
    both = {"selector": {"labels": {"of": "shared"}}, "tenants": ["acme", "globex"], "fallback": ["globex"]}
    await fleet.ask("PUT", "/v1/pools/shared", fleet.admin, both)
    # a node of both, which is also in a pool of the other one's alone
    await fleet.ask("PUT", "/v1/pools/globex-zh", fleet.admin,
                    {"selector": {"capabilities": ["asr:zh"]}, "tenants": ["globex"]})  # fmt: skip
    for node in ("acme-1", "globex-1", "shared-1"):
        await fleet.register(node, fleet.admin, of=node.partition("-")[0])
    await subject(fleet, "globex")
    key = await fleet.keys.text("acme", "operator")
    node = await fleet.keys.text("acme", "node", node="shared-1")
    submit = await fleet.keys.text("acme", "submit")
    told = [
        await fleet.ask("GET", "/v1/nodes", key),
        await fleet.ask("GET", "/v1/nodes/shared-1", key),
        await fleet.ask("GET", "/v1/pools", key),
        await fleet.ask("GET", "/v1/pools/shared", key),
        await fleet.ask("POST", "/v1/explain", key, BODY),
        await fleet.ask("POST", "/v1/explain", key, {"requires": ["only:globex-1"]}),
        await fleet.ask("POST", "/v1/explain", key, BODY | {"pool": "shared"}),
        await fleet.ask("POST", "/v1/jobs", submit, {"requires": ["only:globex-1"]}),
        await fleet.ask("POST", "/v1/jobs:batch", submit, {"jobs": [{"requires": ["only:globex-1"]}, BODY]}),
        await fleet.register("shared-1", node, of="shared"),
        await fleet.ask("GET", "/v1/cluster", key),
        await fleet.ask("GET", "/v1/mirror", key),
        await fleet.ask("GET", "/metrics", key),
        await fleet.ask("GET", "/openapi.json", None),
        await fleet.ask("GET", "/readyz", None),
    ]
    for answer in told:
        # what was asked for is no secret to who asked
        text = answer.text.replace("only:globex-1", "")
        assert "globex" not in text, (answer.request.url, answer.text)
    assert [n["id"] for n in told[0].json()["nodes"]] == ["acme-1", "shared-1"]
    assert told[1].json()["node"]["pools"] == ["shared"]
    assert {p["name"]: (p["tenants"], p["fallback"]) for p in told[2].json()["pools"]} == {
        "acme": (["acme"], []),
        "shared": (["acme"], []),
    }
    assert {n["id"] for n in told[4].json()["nodes"]} == {"acme-1", "shared-1"}
    assert told[9].json()["pools"] == ["shared"]


async def test_a_demand_that_another_tenants_nodes_meet_is_refused_as_one_that_none_meets(two_tenants: Fleet) -> None:
    fleet, key = two_tenants, await two_tenants.keys.text("acme", "submit")
    texts = []
    for token in ("only:globex-1", "only:nobody-1"):
        refused = await fleet.ask("POST", "/v1/jobs", key, {"requires": [token]})
        explained = await fleet.ask("POST", "/v1/explain", key, {"requires": [token]})
        of_its_own = {"snapshot_age_ms": 0, "request_id": ""}
        named = [refused.json() | of_its_own, explained.json() | of_its_own]
        texts.append((refused.status_code, json.dumps(named).replace(token, "-")))
    assert texts[0] == texts[1]


async def test_a_pool_of_another_tenant_is_refused_as_one_that_is_not_there(two_tenants: Fleet) -> None:
    fleet, key = two_tenants, await two_tenants.keys.text("acme", "submit")
    told = [
        await fleet.ask("POST", "/v1/jobs", key, BODY | {"pool": pool}, x_request_id="same")
        for pool in ("globex", "nobody")
    ]
    assert (told[0].status_code, told[0].text) == (told[1].status_code, told[1].text) == (403, told[1].text)


async def test_the_same_id_of_two_tenants_is_two_jobs(two_tenants: Fleet) -> None:
    fleet = two_tenants
    keys = {tenant: await fleet.keys.text(tenant, "submit") for tenant in ("acme", "globex")}
    jobs = {tenant: await fleet.place(key, id="order") for tenant, key in keys.items()}
    assert {job["id"] for job in jobs.values()} == {"acme:order", "globex:order"}
    assert (await fleet.ask("GET", "/v1/jobs/globex:order", keys["acme"])).status_code == 404


async def test_the_event_stream_tells_a_tenant_of_its_own_jobs_and_nodes(two_tenants: Fleet) -> None:
    fleet = two_tenants
    keys = {tenant: await fleet.keys.text(tenant, "submit") for tenant in ("acme", "globex")}
    id_, listening = await fleet.keys.make("acme", "operator")
    for tenant, key in keys.items():
        job = await fleet.place(key, requires=f"only:{tenant}-1", id=f"of-{tenant}")
        body = {"fence": job["fence"], "outcome": "succeeded"}
        assert (await fleet.ask("POST", f"/v1/jobs/{job['id']}/finish", key, body)).status_code == 200
        assert (await fleet.ask("POST", f"/v1/nodes/{tenant}-1/cordon", fleet.admin)).status_code == 200
    await fleet.seen()
    stream = asyncio.create_task(fleet.http.get("/v1/events?after=0", headers=bearer(listening)))
    fanout = fleet.app.state.engine.first.fanout
    async with asyncio.timeout(10):
        while not fanout.count and not stream.done():
            await asyncio.sleep(0.01)
        # what was is told within the first pages; then the key ends, and the stream with it
        await asyncio.sleep(0.5)
    await fleet.keys.functions.apikey_remove(id_)
    told = (await asyncio.wait_for(stream, 10)).text
    assert "acme:of-acme" in told
    assert "acme-1" in told
    assert "globex" not in told


async def test_an_open_stream_leaves_a_foreign_tenant_in_the_header_out(two_tenants: Fleet) -> None:
    key = await two_tenants.keys.text("acme", "operator")
    told = await two_tenants.ask("GET", "/v1/events", key, x_fleet_tenant="globex")
    assert told.status_code == 403


async def test_a_refusal_before_the_routes_is_an_answer_like_any_other(two_tenants: Fleet) -> None:
    """Not a failure of the replica with a traceback in the log; nor does a 401 say whether anybody has quotas."""
    fleet = two_tenants
    key = await fleet.keys.text("acme", "submit")
    headers = []
    for quota in ({}, {"requests_per_s": 1}):
        assert (await fleet.ask("PUT", "/v1/tenants/acme", fleet.admin, quota)).status_code == 200
        told = await fleet.ask("GET", "/v1/pools", None)
        assert (told.status_code, told.json()["request_id"]) == (401, told.headers["x-request-id"])
        headers.append(set(told.headers))
    assert headers[0] == headers[1]
    answers = [await fleet.ask("GET", "/v1/pools", key) for _ in range(3)]
    over = next(told for told in answers if told.status_code == 429)
    assert over.json()["request_id"] == over.headers["x-request-id"]


async def test_that_pools_or_quotas_of_others_change_is_told_to_nobody_else(two_tenants: Fleet) -> None:
    fleet, key = two_tenants, await two_tenants.keys.text("acme", "operator")
    paths = ("/v1/pools", "/v1/pools/acme", "/v1/tenants/acme", "/v1/nodes", "/v1/nodes/acme-1", "/ui/pools")

    async def told() -> list[str]:
        # a node that lives brings its pools up to date
        beat = {"incarnation": fleet.incarnations["acme-1"]}
        assert (await fleet.ask("POST", "/v1/nodes/acme-1/heartbeat", fleet.admin, beat)).status_code == 200
        answers = [await fleet.ask("GET", path, key) for path in paths]
        assert [answer.status_code for answer in answers] == [200] * len(paths)
        return [re.sub(r'"heartbeat_at_ms":\d+', "", answer.text) for answer in answers]

    beat = {"incarnation": fleet.incarnations["shared-1"]}
    before = await told()
    assert (await fleet.ask("PUT", "/v1/tenants/globex", fleet.admin, {"waiting_jobs": 1})).status_code == 200
    pool = {"selector": {"labels": {"of": "nobody"}}, "tenants": ["globex"]}
    assert (await fleet.ask("PUT", "/v1/pools/more", fleet.admin, pool)).status_code == 200
    assert (await fleet.ask("POST", "/v1/nodes/shared-1/heartbeat", fleet.admin, beat)).status_code == 200
    assert await told() == before


async def test_one_tenant_does_not_take_all_places_of_the_event_stream(two_tenants: Fleet) -> None:
    fanout = two_tenants.app.state.engine.first.fanout
    acme, globex = Wanted(Tenant("acme")), Wanted(Tenant("globex"))
    opened = [await fanout.open(acme) for _ in range(192)]
    with pytest.raises(Overrun, match="of this tenant"):
        await fanout.open(acme)
    others = [await fanout.open(globex) for _ in range(10)]
    for subscription in (*opened, *others):
        fanout.close(subscription)
    assert fanout.count == 0
    fanout.close(await fanout.open(acme))


async def test_pages_count_as_requests_of_the_tenant_whose_key_opens_them(two_tenants: Fleet) -> None:
    fleet, key = two_tenants, await two_tenants.keys.text("acme", "submit")
    assert (await fleet.ask("PUT", "/v1/tenants/acme", fleet.admin, {"requests_per_s": 1})).status_code == 200
    answers = await asyncio.gather(*(fleet.ask("GET", "/ui/jobs", key) for _ in range(5)))
    assert 429 in {answer.status_code for answer in answers}
    for path in ("/healthz", "/ui/sign-in", "/ui/static/fleet.css"):
        assert {(await fleet.ask("GET", path, key)).status_code for _ in range(3)} == {200}
    assert (await fleet.ask("GET", "/ui/jobs", None)).status_code == 303
