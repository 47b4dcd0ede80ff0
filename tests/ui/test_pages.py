"""The pages as they come from the server, without any script."""

import asyncio
import random
import re
import time
from collections.abc import Callable

import httpx
import pytest
import redis

from scheduler.dev.server import EmbeddedServer
from scheduler.settings import Settings
from scheduler.store.library import read_library
from scheduler.ui.routes import PAGES
from tests.conftest import Topology, divide
from tests.integration.http.conftest import Speaker, ready, running

JOB = {"requires": ["asr:zh"]}


def card(page: str, text: str) -> str:
    """The number of the card with this text."""
    found = re.search(rf"<b[^>]*>([^<]*)</b>\s*{text}", page)
    assert found, page
    return found[1]


async def test_every_page_forbids_foreign_code_and_frames_and_is_never_kept(plain: httpx.AsyncClient) -> None:
    for operation in PAGES:
        if operation.method == "GET" and "{" not in operation.path:
            response = await plain.get(operation.path)
            assert response.status_code == 200, operation.path
            policy = response.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert response.headers["cache-control"] == "no-store"
            assert not re.search(r'<script(?! src="/ui/static/)|style="|onclick|(src|href)="(?!/|#)', response.text)


async def test_a_method_that_a_page_has_not_is_refused_by_name(plain: httpx.AsyncClient) -> None:
    response = await plain.post("/")
    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert (await plain.head("/")).status_code == 200


async def test_static_files_are_served_and_nothing_beside_them(plain: httpx.AsyncClient) -> None:
    style = await plain.get("/ui/static/fleet.css")
    assert style.headers["content-type"].startswith("text/css")
    again = await plain.get("/ui/static/fleet.css", headers={"if-none-match": style.headers["etag"]})
    assert again.status_code == 304
    assert (await plain.get("/ui/static/vendor/uplot/LICENSE")).text.startswith("The MIT License")
    for path in ("nothing.css", "..%2fpages.py", "../pages.py", "%2e%2e/routes.py", "vendor", ""):
        assert (await plain.get(f"/ui/static/{path}")).status_code in {404, 405}, path


async def test_the_overview_counts_the_fleet_and_what_this_replica_did(speak: Speaker) -> None:
    page = (await speak.client.get("/")).text
    assert "No node has registered yet" in page
    await speak.register("n1", slots=2)
    for _ in range(2):
        await speak("POST", "/v1/jobs", JOB)
    # reasons are counted in the snapshot
    await speak.followed()
    assert (await speak("POST", "/v1/jobs", JOB)).status == 503
    await speak.register("n2", slots=1, capabilities=("tts:en",))
    await speak("POST", "/v1/nodes/n2/cordon")
    await speak.followed()
    page = (await speak.client.get("/")).text
    assert card(page, "ready nodes") == "1"
    assert card(page, "cordoned nodes") == "1"
    assert card(page, "of 3 slots used") == "2"
    assert "2 in all" in page
    assert re.search(r'<th scope="row">full</th>.*?data-label="in all">1<', page, re.DOTALL)
    assert re.search(r'href="/ui/nodes/n2">n2</a>', page)
    assert "fleet:{0}" in page


async def test_the_overview_of_a_tenant_names_only_nodes_of_its_pools(speak: Speaker) -> None:
    await speak("PUT", "/v1/pools/gold", {"selector": {"capabilities": ["gpu"]}, "tenants": ["gold"]})
    await speak.register("a-hidden", capabilities=("gpu",))
    await speak("POST", "/v1/nodes/a-hidden/cordon")
    await speak.followed()
    get = speak.client.get
    assert "a-hidden" in (await get("/")).text
    assert "a-hidden" in (await get("/?tenant=gold")).text
    assert 'href="/ui/nodes?tenant=gold"' in (await get("/?tenant=gold")).text
    assert "a-hidden" not in (await get("/?tenant=other")).text
    bound = await get("/?tenant=gold", headers={"x-fleet-tenant": "other"})
    assert "a-hidden" not in bound.text
    assert "show all" not in bound.text
    wrong = await get("/?tenant=a%3Cb")
    assert (wrong.status_code, wrong.headers["content-type"]) == (422, "text/html; charset=utf-8")


async def test_pages_are_bounded_and_say_what_to_do_while_redis_is_down(
    fresh_server: Callable[..., EmbeddedServer],
) -> None:
    server = fresh_server()
    with redis.Redis(port=server.port) as client:
        client.execute_command("FUNCTION", "LOAD", read_library().code)
    async with running(Settings(redis_url=server.url)) as (app, plain):
        await ready(app)
        server.stop()
        for operation in PAGES:
            if operation.method == "GET" and "{" not in operation.path and operation.path.endswith(("/", "s", "n")):
                began = time.monotonic()
                response = await plain.get(operation.path)
                assert time.monotonic() - began < 5
                if operation.path != "/ui/course.json":
                    assert response.headers["content-type"].startswith("text/html"), operation.path
                    assert "<main" in response.text
        page = await plain.get("/")
        assert page.status_code == 503
        assert "redis-cli ping" in page.text


@pytest.mark.one_shard("it divides the fleet itself")
async def test_a_divided_fleet_is_shown_as_one(topology: Topology, client: redis.Redis) -> None:
    tags = divide(client, 4)
    async with running(Settings(redis_url=topology.url)) as (app, plain):
        await ready(app)
        speak = Speaker(plain, packed=False, app=app)
        names = [f"n{number}" for number in range(8)]
        for name in names:
            await speak.register(name, slots=1)
        await speak.followed()
        jobs = [(await speak("POST", "/v1/jobs", JOB)).body["job"] for _ in names]
        assert (await speak("POST", "/v1/jobs", JOB | {"id": "late", "wait_ms": 60_000})).status == 202
        await speak.followed()
        overview = (await plain.get("/")).text
        assert card(overview, "of 8 slots used") == "8"
        assert all(f"fleet:{{{tag}}}" in overview for tag in tags)
        page = (await plain.get("/ui/nodes")).text
        assert re.findall(r'<tr data-key="(n\d)"', page) == names
        page = (await plain.get("/ui/jobs")).text
        assert all(job["id"] in page for job in jobs)
        assert "default:late" in page
        free = jobs[0]
        body = {"fence": free["fence"], "outcome": "succeeded"}
        assert (await speak("POST", f"/v1/jobs/{free['id']}/finish", body)).status == 200
        async with asyncio.timeout(10):
            while "It has a slot" not in (page := (await plain.get("/ui/jobs/default:late")).text):
                await asyncio.sleep(0.05)
        assert f'href="/ui/nodes/{free["node"]["id"]}"' in page
        assert page.index("job waiting") < page.index("job moved")
        node = (await plain.get(f"/ui/nodes/{free['node']['id']}")).text
        assert "default:late" in node


async def test_the_page_of_a_demand_says_what_the_route_says(speak: Speaker) -> None:
    rng = random.Random(8)
    tokens = ("asr:zh", "asr:en", "tts:en", "gpu", "llm:x")
    await speak("PUT", "/v1/pools/default", {"selector": {"all": True}})
    await speak(
        "PUT", "/v1/pools/gold", {"selector": {"capabilities": ["gpu"]}, "tenants": ["gold"], "fallback": ["default"]}
    )
    for number in range(12):
        await speak.register(f"n{number}", slots=1, capabilities=tuple(rng.sample(tokens, 2)))
    for number in (1, 5):
        await speak("POST", f"/v1/nodes/n{number}/cordon")
    for token in tokens[:3]:
        await speak("POST", "/v1/jobs", {"requires": [token]})
    seen = set()
    for _ in range(60):
        requires = rng.sample((*tokens, "none"), rng.randint(1, 2))
        pool, tenant, fallback = (
            rng.choice(("", "gold", "default")),
            rng.choice(("gold", "other")),
            rng.random() < 0.5,
        )
        body = {"requires": requires, "fallback": fallback, **({"pool": pool} if pool else {})}
        told = (await speak("POST", "/v1/explain", body, tenant=tenant)).body
        query = {"requires": " ".join(requires), "pool": pool, "for": tenant, **({} if fallback else {"direct": "1"})}
        page = (await speak.client.get("/ui/explain", params=query)).text
        class_ = re.search(r'data-class="(\w+)"', page)
        assert class_
        reasons = dict(re.findall(r'data-reason="(\w+)".*?data-label="nodes">(\d+)<', page, re.DOTALL))
        assert (class_[1], reasons) == (told["class"], {name: str(n) for name, n in told["reasons"].items()}), query
        near = re.search(r'id="near">Nearest: <a href="/ui/nodes/(\w+)', page)
        if told["class"] != "placeable":
            assert (near[1] if near else None) == (told["near_miss"] and told["near_miss"]["id"])
        seen.add(told["class"])
    assert seen >= {"placeable", "overloaded", "impossible", "denied"}
