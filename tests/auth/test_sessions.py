"""Sessions of the dashboard: a cookie that reads, forms that carry a mark, and an end."""

import re
from collections.abc import Awaitable, Callable

import httpx
import pytest

from scheduler.domain.apikey import Role
from scheduler.ui.sessions import SESSIONS_MAX
from tests.auth.conftest import Fleet, bearer

SAME = {"sec-fetch-site": "same-origin", "content-type": "application/x-www-form-urlencoded"}
CSRF = re.compile(r'name="csrf" value="([0-9a-f]{64})"')
SignIn = Callable[[Role, str], Awaitable[str]]


@pytest.fixture
def signed_in(two_tenants: Fleet) -> SignIn:
    """Sign the client in with a key of this role and tenant; answers the key's id."""

    async def sign_in(role: Role, tenant: str) -> str:
        id_, text = await two_tenants.keys.make(tenant, role)
        told = await two_tenants.http.post("/ui/sign-in", content=f"key={text}&next=/ui/nodes", headers=SAME)
        assert (told.status_code, told.headers["location"]) == (303, "/ui/nodes")
        return id_

    return sign_in


async def mark(http: httpx.AsyncClient, path: str) -> str:
    found = CSRF.search((await http.get(path)).text)
    assert found, path
    return found[1]


async def test_a_person_is_asked_for_a_key_and_comes_back_to_the_page(two_tenants: Fleet) -> None:
    http = two_tenants.http
    told = await http.get("/ui/nodes?standing=ready&q=a")
    assert told.status_code == 303
    asked = await http.get(told.headers["location"])
    assert 'name="next" value="/ui/nodes?standing=ready&amp;q=a"' in asked.text
    assert 'type="password"' in asked.text
    assert (asked.headers["cache-control"], asked.headers["referrer-policy"]) == ("no-store", "same-origin")


_ELSEWHERE = ("//evil.example", "https://evil.example/", "/\\evil.example", "/v1/cluster", "javascript:alert(1)", "")


@pytest.mark.parametrize("elsewhere", _ELSEWHERE)
async def test_nobody_is_sent_elsewhere_after_signing_in(two_tenants: Fleet, elsewhere: str) -> None:
    http, key = two_tenants.http, await two_tenants.keys.text("acme", "submit")
    assert 'name="next" value="/"' in (await http.get("/ui/sign-in", params={"next": elsewhere})).text
    told = await http.post("/ui/sign-in", data={"key": key, "next": elsewhere}, headers=SAME)
    assert told.headers["location"] == "/"


async def test_every_page_says_whose_it_is_also_where_something_is_wrong(
    two_tenants: Fleet, signed_in: SignIn
) -> None:
    http = two_tenants.http
    assert "all tenants" not in (await http.get("/ui/sign-in")).text, "nobody is known yet"
    await signed_in("submit", "acme")
    for path, status in (("/", 200), ("/ui/jobs/acme:none", 404), ("/ui/nodes/none", 404)):
        page = await http.get(path)
        assert page.status_code == status
        assert "tenant <b>acme</b>" in page.text
        assert "all tenants" not in page.text
        assert 'href="/metrics"' not in page.text, "which it may not see"
    assert "every tenant" in (await http.get("/")).text
    await signed_in("operator", "*")
    for path in ("/", "/ui/jobs/acme:none"):
        assert "all tenants" in (await http.get(path)).text
        assert 'href="/metrics"' in (await http.get(path)).text


async def test_the_cookie_is_a_key_of_its_own_that_scripts_and_other_sites_do_not_get(
    two_tenants: Fleet, signed_in: SignIn
) -> None:
    http = two_tenants.http
    parent = await signed_in("operator", "acme")
    keys = two_tenants.app.state.engine.keyring._keys
    (session,) = [id_ for id_, key in keys.items() if key.parent == parent]
    assert http.cookies["fleet_session"].startswith(f"fleet_{session}_")
    told = await http.post(
        "/ui/sign-in",
        data={"key": await two_tenants.keys.text("acme", "submit")},
        headers=SAME | {"x-forwarded-proto": "https"},
    )
    cookie = told.headers["set-cookie"].lower()
    for word in ("httponly", "samesite=strict", "path=/", "max-age=43200", "secure"):
        assert word in cookie
    assert "domain" not in cookie


async def test_wrong_keys_and_those_of_nodes_and_sessions_sign_nobody_in(
    two_tenants: Fleet, signed_in: SignIn
) -> None:
    http = two_tenants.http
    node = await two_tenants.keys.text("acme", "node", node="acme-1")
    await signed_in("submit", "acme")
    for key in ("", "no key", f"fleet_unknown1_{'x' * 43}", node, http.cookies["fleet_session"]):
        told = await http.post("/ui/sign-in", data={"key": key}, headers=SAME)
        assert (told.status_code, "set-cookie" in told.headers) == (403, False)
        assert key not in told.text or not key


async def test_a_form_without_the_sessions_mark_is_refused(two_tenants: Fleet, signed_in: SignIn) -> None:
    http = two_tenants.http
    await signed_in("operator", "acme")
    good = await mark(http, "/ui/nodes/acme-1/cordon")
    for body in ("", "csrf=", f"csrf={'0' * 64}", f"csrf={good[:-1]}", "csrf=é"):
        assert (await http.post("/ui/nodes/acme-1/cordon", content=body, headers=SAME)).status_code == 403
        assert (await http.post("/ui/sign-out", content=body, headers=SAME)).status_code == 403
    elsewhere = SAME | {"sec-fetch-site": "cross-site"}
    told = await http.post("/ui/nodes/acme-1/cordon", content=f"csrf={good}", headers=elsewhere)
    assert told.status_code == 403
    node = two_tenants.shards.node("acme-1")
    assert two_tenants.shards.redis.hget(node, "state") == b"ready"
    assert (await http.post("/ui/nodes/acme-1/cordon", content=f"csrf={good}", headers=SAME)).status_code == 303
    assert two_tenants.shards.redis.hget(node, "state") == b"cordoned"


async def test_the_mark_of_one_session_is_nothing_to_another(two_tenants: Fleet, signed_in: SignIn) -> None:
    http = two_tenants.http
    await signed_in("operator", "acme")
    first = await mark(http, "/ui/nodes/acme-1/cordon")
    await signed_in("operator", "acme")
    assert (await http.post("/ui/nodes/acme-1/cordon", content=f"csrf={first}", headers=SAME)).status_code == 403


async def test_under_v1_a_cookie_reads_and_does_nothing_else(two_tenants: Fleet, signed_in: SignIn) -> None:
    http = two_tenants.http
    await signed_in("admin", "*")
    assert (await http.get("/v1/cluster")).status_code == 200
    assert (await http.get("/metrics")).status_code == 200
    assert (await http.post("/v1/jobs", json={"requires": ["asr:zh"]})).status_code == 401
    assert (await http.post("/v1/nodes/acme-1/cordon")).status_code == 401
    assert (await http.put("/v1/pools/x", json={"selector": {"all": True}})).status_code == 401
    assert (await http.delete("/v1/pools/acme")).status_code == 401


async def test_a_proxys_password_is_in_nobodys_way(two_tenants: Fleet, signed_in: SignIn) -> None:
    http, basic = two_tenants.http, {"authorization": "Basic dXNlcjpwYXNz"}
    assert (await http.get("/v1/pools", headers=basic)).status_code == 401
    await signed_in("submit", "acme")
    assert (await http.get("/ui/nodes", headers=basic)).status_code == 200
    assert (await http.post("/v1/jobs", json={"requires": ["asr:zh"]}, headers=basic)).status_code == 401


async def test_who_signs_out_is_out_also_with_a_copy_of_the_cookie(two_tenants: Fleet, signed_in: SignIn) -> None:
    http = two_tenants.http
    await signed_in("submit", "acme")
    copy = http.cookies["fleet_session"]
    told = await http.post("/ui/sign-out", content=f"csrf={await mark(http, '/ui/nodes')}", headers=SAME)
    assert (told.status_code, told.headers["location"]) == (303, "/ui/sign-in")
    assert "fleet_session" not in http.cookies
    assert (await http.get("/ui/nodes", headers={"cookie": f"fleet_session={copy}"})).status_code == 303
    assert (await http.get("/v1/pools", headers=bearer(copy))).status_code == 401


async def test_with_its_key_a_session_ends(two_tenants: Fleet, signed_in: SignIn) -> None:
    http = two_tenants.http
    parent = await signed_in("submit", "acme")
    assert (await http.get("/ui/nodes")).status_code == 200
    await two_tenants.keys.functions.apikey_remove(parent)  # type: ignore[arg-type]
    await two_tenants.app.state.engine.keyring.refresh()
    assert (await http.get("/ui/nodes")).status_code == 303


async def test_a_key_has_a_bounded_number_of_sessions(two_tenants: Fleet) -> None:
    http, (id_, text) = two_tenants.http, await two_tenants.keys.make("acme", "submit")
    cookies = []
    for _ in range(SESSIONS_MAX + 3):
        await http.post("/ui/sign-in", data={"key": text}, headers=SAME)
        cookies.append(http.cookies["fleet_session"])
    assert len(two_tenants.app.state.engine.keyring.sessions(id_)) == SESSIONS_MAX
    http.cookies.clear()
    for cookie, status in ((cookies[0], 303), (cookies[-1], 200)):
        assert (await http.get("/ui/nodes", headers={"cookie": f"fleet_session={cookie}"})).status_code == status


async def test_a_tenants_pages_show_its_own_and_no_actions_that_it_may_not_take(
    two_tenants: Fleet, signed_in: SignIn
) -> None:
    http = two_tenants.http
    await two_tenants.register("globex-2", two_tenants.admin, of="globex")
    told = await two_tenants.ask(
        "POST", "/v1/jobs", two_tenants.admin, {"requires": ["only:globex-1"], "id": "gx"}, x_fleet_tenant="globex"
    )
    assert told.status_code == 201
    await two_tenants.ask("POST", "/v1/nodes/globex-1/cordon", two_tenants.admin)
    await two_tenants.ask("POST", "/v1/nodes/acme-1/cordon", two_tenants.admin)
    await two_tenants.seen()
    await signed_in("submit", "acme")
    lists = ("/", "/ui/nodes", "/ui/pools", "/ui/jobs", "/ui/explain")
    beyond = ("/ui/nodes?tenant=globex", "/ui/jobs?tenant=globex", "/ui/explain?requires=asr:zh&for=globex")
    for path in (*lists, "/ui/nodes/acme-1", "/ui/nodes/shared-1", *beyond):
        page = await http.get(path)
        assert page.status_code == 200, path
        assert "globex" not in page.text, path
    assert "acme-1" in (await http.get("/")).text
    assert "cordon" not in (await http.get("/ui/nodes/shared-1")).text.lower().partition("<main")[2]
    assert (await http.get("/ui/course.json")).status_code == 403
