"""Every route, with every role, for own and foreign things; a route without a row here fails."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from scheduler.http.routes import OPERATIONS, Operation
from scheduler.ui.routes import PAGES
from tests.auth.conftest import Fleet, P, bearer

ROLES = ("submit", "node", "operator", "admin")
EVERYBODY = "everybody"


@dataclass(frozen=True)
class Row:
    """Who may, by role; `whole`: only with a key for every tenant. What is sent, and how a good answer begins.

    `foreign`: a thing of another tenant is as unknown as one that is not there.
    """

    roles: str
    body: Mapping[str, Any] | None = None
    good: tuple[int, ...] = (200,)
    foreign: bool = True
    whole: bool = False
    params: Mapping[str, str] = field(default_factory=dict)
    query: str = ""


_NODE = {"endpoint": "http://n", "slots": 50, "capabilities": ["asr:zh"], "ttl_ms": 600_000}
_READS, _OPERATES = "submit operator admin", "operator admin"
API: dict[tuple[str, str], Row] = {
    ("POST", "/v1/jobs"): Row("submit admin", {"requires": ["asr:zh"]}, (201,)),
    ("POST", "/v1/jobs:batch"): Row("submit admin", {"jobs": [{"requires": ["asr:zh"]}]}),
    ("GET", "/v1/jobs/{job}"): Row(_READS),
    ("POST", "/v1/jobs/{job}/start"): Row("submit node admin", {"fence": "FENCE"}),
    ("POST", "/v1/jobs/{job}/finish"): Row("submit node admin", {"fence": "FENCE", "outcome": "succeeded"}),
    ("POST", "/v1/jobs/{job}/cancel"): Row(_READS),
    ("POST", "/v1/explain"): Row(_READS, {"requires": ["asr:zh"]}),
    ("GET", "/v1/nodes"): Row(_READS),
    ("GET", "/v1/nodes/{node}"): Row(_READS),
    ("PUT", "/v1/nodes/{node}"): Row("node admin", _NODE, (201,)),
    ("POST", "/v1/nodes/{node}/heartbeat"): Row("node admin", {"incarnation": "INCARNATION"}),
    ("POST", "/v1/nodes/{node}/cordon"): Row(_OPERATES),
    ("POST", "/v1/nodes/{node}/uncordon"): Row(_OPERATES),
    ("POST", "/v1/nodes/{node}/drain"): Row(_OPERATES),
    ("DELETE", "/v1/nodes/{node}"): Row("node admin"),
    ("GET", "/v1/pools"): Row(_READS),
    ("GET", "/v1/pools/{pool}"): Row(_READS),
    ("PUT", "/v1/pools/{pool}"): Row("admin", {"selector": {"labels": {"of": "acme"}}, "tenants": ["acme"]}),
    ("DELETE", "/v1/pools/{pool}"): Row("admin"),
    ("GET", "/v1/tenants"): Row(_OPERATES, whole=True),
    ("GET", "/v1/tenants/{tenant}"): Row(_READS),
    ("PUT", "/v1/tenants/{tenant}"): Row("admin", {"waiting_jobs": 100}),
    ("DELETE", "/v1/tenants/{tenant}"): Row("admin"),
    ("GET", "/v1/events"): Row(_READS),
    ("GET", "/v1/cluster"): Row(_OPERATES, whole=True),
    ("GET", "/v1/audit"): Row(_OPERATES, whole=True),
    ("GET", "/v1/mirror"): Row(_OPERATES, whole=True),
    ("GET", "/healthz"): Row(EVERYBODY),
    ("GET", "/readyz"): Row(EVERYBODY),
    ("GET", "/metrics"): Row(_OPERATES, whole=True),
}
UI: dict[tuple[str, str], Row] = {
    ("GET", "/"): Row(_READS),
    ("GET", "/ui/nodes"): Row(_READS),
    ("GET", "/ui/nodes/{node}"): Row(_READS),
    ("GET", "/ui/nodes/{node}/{mark}"): Row(_OPERATES, params={"mark": "cordon"}),
    ("POST", "/ui/nodes/{node}/{mark}"): Row(_OPERATES, {}, (303,), params={"mark": "cordon"}),
    ("GET", "/ui/pools"): Row(_READS),
    ("GET", "/ui/jobs"): Row(_READS),
    ("GET", "/ui/jobs/{job}"): Row(_READS),
    ("GET", "/ui/jobs/{job}/cancel"): Row(_READS),
    ("POST", "/ui/jobs/{job}/cancel"): Row(_READS, {}, (303,)),
    ("GET", "/ui/explain"): Row(_READS, query="?requires=asr:zh"),
    ("GET", "/ui/course.json"): Row(_OPERATES, whole=True),
    ("GET", "/ui/static/{file:path}"): Row(EVERYBODY, params={"file:path": "fleet.css"}),
    ("GET", "/ui/sign-in"): Row(EVERYBODY),
    ("POST", "/ui/sign-in"): Row(EVERYBODY, {"key": "no key"}, (403,)),
    ("POST", "/ui/sign-out"): Row(_READS, {}, (303,)),
}
ROWS = API | UI
ALL = (*OPERATIONS, *PAGES)
BY_OPERATION = pytest.mark.parametrize("operation", ALL, ids=lambda o: f"{o.method} {o.path}")


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert {(o.method, o.path) for o in ALL} == set(ROWS)


def row_of(operation: Operation) -> Row:
    return ROWS[operation.method, operation.path]


@dataclass(frozen=True)
class Subject:
    """What the request is about: the names in its path, and what its body needs to know."""

    names: dict[str, str]
    fence: int = 1
    incarnation: int = 1


async def subject(fleet: Fleet, tenant: str, node: str | None = None) -> Subject:
    """Things of this tenant's, made anew or as they were before: a job on its node, the node and the pool."""
    named = node or f"{tenant}-1"
    told = (await fleet.register(named, fleet.admin, of=named.partition("-")[0])).json()
    await fleet.seen()
    headers = bearer(fleet.admin, x_fleet_tenant=tenant)
    assert (await fleet.http.put(f"/v1/tenants/{tenant}", json={"waiting_jobs": 100}, headers=headers)).is_success
    body = {"requires": [f"only:{named}"], "deliver": "direct"}
    placed = await fleet.http.post("/v1/jobs", json=body, headers=headers)
    assert placed.status_code == 201, placed.text
    job = placed.json()["job"]
    return Subject(
        {"job": job["id"], "node": named, "pool": tenant, "tenant": tenant}, job["fence"], told["incarnation"]
    )


def missing_like(found: Subject) -> Subject:
    """Names that nothing has, as long as those of what is there."""
    job = found.names["job"]
    names = {"job": f"{job[:-6]}{'000000' if job[-6:] != '000000' else '111111'}",
             "node": "nobody-1", "pool": "nobody", "tenant": "nobody"}  # fmt: skip
    assert all(len(names[name]) == len(found.names[name]) for name in names)
    return Subject(names, found.fence, found.incarnation)


async def call(fleet: Fleet, operation: Operation, about: Subject, key: str | None, **more: str) -> httpx.Response:
    """The answer, of a stream once it has begun and was ended."""
    row, page = row_of(operation), operation in PAGES
    path = re.sub(r"{([^}]+)}", lambda found: {**about.names, **row.params}[found[1]], operation.path) + row.query
    headers = bearer(key, **more)
    if page and operation.method == "POST":
        headers |= {"sec-fetch-site": "same-origin", "content-type": "application/x-www-form-urlencoded"}
        form = "&".join(f"{name}={value}" for name, value in (row.body or {}).items())
        return await fleet.http.post(path, content=form, headers=headers)
    stands_for = {"FENCE": about.fence, "INCARNATION": about.incarnation}
    body = row.body and {name: stands_for.get(str(value), value) for name, value in row.body.items()}
    asked = asyncio.create_task(fleet.http.request(operation.method, path, json=body, headers=headers))
    if operation.path != "/v1/events":
        return await asked
    fanout = fleet.app.state.engine.first.fanout
    async with asyncio.timeout(20):
        while not asked.done():
            # its client would have to go, and this one hears nothing before the end
            for subscription in {one for group in fanout._clients.values() for one in group}:
                subscription.end()
            await asyncio.sleep(0.01)
    return await asked


async def own_key(fleet: Fleet, role: str, tenant: str, node: str = "acme-1") -> str:
    return await fleet.keys.text("*" if role == "admin" else tenant, role, node=node if role == "node" else None)  # type: ignore[arg-type]


def is_refused(answer: httpx.Response, status: int) -> httpx.Response:
    assert answer.status_code == status, answer.text
    return answer


def is_unknown_caller(operation: Operation, answer: httpx.Response) -> None:
    """A program is told how to say who it is; a person is asked."""
    if operation in PAGES:
        assert is_refused(answer, 303).headers["location"].startswith("/ui/sign-in?next=")
        return
    told = is_refused(answer, 401)
    assert told.headers["www-authenticate"].startswith('Bearer realm="fleet"')
    assert told.json()["title"] == "Unauthorized"


@BY_OPERATION
async def test_without_a_good_key_nothing_is_answered(two_tenants: Fleet, operation: Operation) -> None:
    fleet, row = two_tenants, row_of(operation)
    about = await subject(fleet, "acme")
    expired = await fleet.keys.make("*", "admin", expires_ms=1)
    revoked = await fleet.keys.make("*", "admin")
    await fleet.keys.functions.apikey_remove(revoked[0])
    wrong = f"{fleet.admin[:-1]}{'A' if fleet.admin[-1] != 'A' else 'B'}"
    for key in (None, expired[1], revoked[1], wrong, "fleet_", "x" * 5_000):
        answer = await call(fleet, operation, about, key)
        if row.roles == EVERYBODY:
            is_refused(answer, row.good[0])
        else:
            is_unknown_caller(operation, answer)


@BY_OPERATION
@pytest.mark.parametrize("role", ROLES)
async def test_a_role_may_what_its_row_says_of_its_own(two_tenants: Fleet, operation: Operation, role: str) -> None:
    fleet, row = two_tenants, row_of(operation)
    may = row.roles == EVERYBODY or (role in row.roles.split() and not (row.whole and role != "admin"))
    about, key = await subject(fleet, "acme"), await own_key(fleet, role, "acme")
    more = {"x_fleet_tenant": "acme"} if role == "admin" else {}
    answer = await call(fleet, operation, about, key, **more)
    if not may:
        detail = is_refused(answer, 403).text
        assert all(word in detail for word in row.roles.split()), "it names the role that is needed"
    else:
        assert answer.status_code in row.good, answer.text
    if may and row.roles != EVERYBODY and role != "admin" and operation not in PAGES:
        told = is_refused(await call(fleet, operation, about, key, x_fleet_tenant="globex"), 403)
        assert "globex" not in told.text


@BY_OPERATION
@pytest.mark.parametrize("role", ["submit", "node", "operator"])
async def test_what_is_anothers_is_as_unknown_as_what_is_not_there(
    two_tenants: Fleet, operation: Operation, role: str
) -> None:
    fleet, row = two_tenants, row_of(operation)
    names = re.findall(r"{(job|node|pool)}", operation.path)
    if role not in row.roles.split() or row.whole or not names:
        return
    key = await own_key(fleet, role, "acme")
    foreign = await subject(fleet, "globex")
    missing = missing_like(foreign)
    before = fleet.shards.everything()
    told = await call(fleet, operation, foreign, key)
    assert anyway(fleet.shards.everything()) == anyway(before)
    other = await call(fleet, operation, missing, key)
    bound = role == "node" and "node" in names
    assert told.status_code == other.status_code == (403 if bound else 404), told.text
    assert without(told, foreign) == without(other, missing)


def anyway(keys: Mapping[str, bytes]) -> dict[str, bytes]:
    """The keys without those that change while nobody asks for anything: the clock, turns of reaping and moving."""
    own = re.compile(r"^fleet:\{\w+\}(:mover|:moved)?$")
    return {name: value for name, value in keys.items() if not own.match(name)}


def without(answer: httpx.Response, about: Subject) -> tuple[str, dict[str, str]]:
    text = answer.text
    for name in about.names.values():
        text = text.replace(name, "-")
    if request := answer.headers.get("x-request-id"):
        text = text.replace(request, "-")
    headers = {name: value for name, value in answer.headers.items() if name not in {"date", "x-request-id"}}
    return text, headers


@BY_OPERATION
async def test_an_operator_of_every_tenant_sees_what_an_admin_sees(two_tenants: Fleet, operation: Operation) -> None:
    fleet, row = two_tenants, row_of(operation)
    about, key = await subject(fleet, "globex"), await fleet.keys.text("*", "operator")
    answer = await call(fleet, operation, about, key, x_fleet_tenant="globex")
    if row.roles == EVERYBODY or "operator" in row.roles.split():
        assert answer.status_code in row.good, answer.text
    else:
        is_refused(answer, 403)


async def test_an_operator_of_a_tenant_marks_no_node_that_others_use_too(two_tenants: Fleet) -> None:
    fleet = two_tenants
    key = await fleet.keys.text("acme", "operator")
    for mark in ("cordon", "drain", "uncordon"):
        told = await fleet.ask("POST", f"/v1/nodes/shared-1/{mark}", key)
        assert told.status_code == 403
        assert "globex" not in told.text
        assert (await fleet.ask("POST", f"/v1/nodes/acme-1/{mark}", key)).status_code == 200
    assert fleet.shards.redis.hget(fleet.shards.node("shared-1"), "state") == b"ready"


async def test_a_nodes_key_runs_what_is_leased_to_its_node_and_nothing_else(two_tenants: Fleet) -> None:
    fleet = two_tenants
    own, other = await subject(fleet, "globex"), await subject(fleet, "globex", "shared-1")
    # whose the job is does not matter, but where it is
    key = await fleet.keys.text("globex", "node", node="shared-1")
    for word, body in (("start", {}), ("finish", {"outcome": "succeeded"})):
        path = f"/v1/jobs/{own.names['job']}/{word}"
        assert (await fleet.ask("POST", path, key, {"fence": own.fence, **body})).status_code == 404
        path = f"/v1/jobs/{other.names['job']}/{word}"
        assert (await fleet.ask("POST", path, key, {"fence": other.fence + 1, **body})).status_code == 404
        assert (await fleet.ask("POST", path, key, {"fence": other.fence, **body})).status_code == 200
    assert P in fleet.shards.keys
