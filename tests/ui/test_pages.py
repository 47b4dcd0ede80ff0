"""The pages as they come from the server, without any script."""

import re
import time
from collections.abc import Callable

import httpx
import redis

from scheduler.dev.server import EmbeddedServer
from scheduler.settings import Settings
from scheduler.store.library import read_library
from scheduler.ui.routes import PAGES
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
    for _ in range(3):
        await speak("POST", "/v1/jobs", JOB)
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
