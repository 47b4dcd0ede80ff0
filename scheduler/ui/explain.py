"""Why a demand is placed or not: a form, the verdict of the same call as POST /v1/explain, and what would help."""

import shlex
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from scheduler.domain.explanation import NodeVerdict
from scheduler.domain.ids import Tenant, checked_id
from scheduler.domain.required import SERVICE_NAMES
from scheduler.engine.engine import Engine
from scheduler.errors import BadInput
from scheduler.http.body import decoded
from scheduler.http.explain import explained_node, explanation
from scheduler.http.problems import Problem
from scheduler.http.wire import JobBody, demand_in
from scheduler.ui import commands
from scheduler.ui.pages import Viewer, page, render, viewer_of

ROWS_MAX = 100
_WORDS = ("requires", "exclude")
_ONES = ("src", "tgt", "pool")


def _asked(request: Request) -> dict[str, Any]:
    """The form's fields as the body of a request; what is empty is left out."""
    form = request.query_params
    asked: dict[str, Any] = {name: form.get(name, "").replace(",", " ").split() for name in _WORDS}
    asked["services"] = form.getlist("services")
    asked |= {name: form.get(name, "").strip() for name in _ONES}
    asked["fallback"] = "direct" not in form
    return {name: value for name, value in asked.items() if value not in ("", []) and value is not True}


def _tenant(request: Request, viewer: Viewer) -> Tenant:
    """A demand is always a tenant's: the viewer's, or the one that the form names."""
    if viewer.tenant is not None:
        return viewer.tenant
    return Tenant(checked_id("tenant", request.query_params.get("for", "").strip() or "default"))


def _commands(
    request: Request, body: JobBody, asked: dict[str, Any], tenant: Tenant, shard: str
) -> commands.Commands:
    options = {
        "requires": "requires",
        "services": "services",
        "src": "src",
        "tgt": "tgt",
        "pool": "pool",
        "exclude": "exclude",
    }
    words = [
        (f"--{options[name]}", " ".join(v) if isinstance(v, list) else v)
        for name, v in asked.items()
        if name in options
    ]
    line = ["fleet", "explain", *(word for pair in words for word in pair), "--tenant", tenant]
    line += ["--no-fallback"] if not body.fallback else []
    text = msgspec.json.encode(asked).decode()
    curl = ["curl", "-H", f"X-Fleet-Tenant: {tenant}", "-H", "Content-Type: application/json", "-d", text]
    told = [("the same from the command line", shlex.join(line))]
    told += [("the same over HTTP", shlex.join([*curl, f"{request.url.scheme}://{request.url.netloc}/v1/explain"]))]
    for tokens in demand_in(body, tenant).any_of:
        told += commands.of_demand(shard, sorted(tokens), body.pool or "")
    return told


@page
async def explain(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    viewer = viewer_of(request)
    asked = _asked(request)
    parts = await engine.known()
    pools = sorted(name for name, pool in engine.first.mirror.snapshot.pools.items() if viewer.serves(pool))
    values: dict[str, Any] = {"asked": asked, "services": SERVICE_NAMES, "pools": pools, "viewer": viewer}
    values |= {"found": None, "wrong": "", "tenant": viewer.tenant or "default"}
    if not asked.keys() & {"requires", "services"}:
        values["offered"] = sorted(
            {
                token
                for shard in parts.shards
                for shape in shard.mirror.snapshot.members
                if viewer.tenant is None or not shape.pools.isdisjoint(pools)
                for token in shape.offered
            }
        )[:60]
        return render(request, "explain.html", **values)
    try:
        tenant = _tenant(request, viewer)
        body = decoded(msgspec.json.encode(asked), JobBody, packed=False)
        found, age_ms = await explanation(engine, body, tenant)
    except (BadInput, Problem) as error:
        if isinstance(error, Problem) and error.status != 422:
            raise
        return render(request, "explain.html", 422, **values | {"wrong": str(error), "offered": []})
    nodes = sorted(found.nodes, key=NodeVerdict.distance)
    values |= {
        "tenant": tenant,
        "found": found,
        "age_ms": age_ms,
        "eligible": sum(not node.conditions for node in nodes),
        "nodes": [explained_node(node) for node in nodes[:ROWS_MAX]],
        "more": max(len(nodes) - ROWS_MAX, 0),
        "near": None if found.near_miss is None else explained_node(found.near_miss),
        "commands": _commands(request, body, asked, tenant, engine.first.key),
        "offered": [],
    }
    return render(request, "explain.html", **values)
