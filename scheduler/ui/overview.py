"""The first page: what the fleet has, what this replica does, and what needs a look."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from scheduler.engine.engine import Engine
from scheduler.errors import FleetError
from scheduler.ui.finding import Sought, find, trouble
from scheduler.ui.pages import HEADERS, page, render, viewer_of

ROWS_MAX = 10


def _shards(engine: Engine, cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """Each shard: what Redis has in it, and what keeps this replica from placing there."""
    parts = cluster.get("shards") or {engine.first.tag: cluster}
    return [
        {"key": shard.key, "obstacle": shard.obstacle(), "age_ms": shard.mirror.age_ms, "part": parts.get(shard.tag)}
        for shard in engine.shards
    ]


@page
async def overview(request: Request) -> Response:
    """The numbers of the fleet are Redis's, the rates are those of this replica alone."""
    engine: Engine = request.app.state.engine
    viewer = viewer_of(request)
    obstacle = engine.obstacle()
    cluster: dict[str, Any] = {}
    # what a tenant is bound to ends where the whole begins
    if obstacle is None and not viewer.bound:
        try:
            cluster = await engine.parts.fleet.cluster()
        except FleetError as error:
            obstacle = str(error)
    found = find([shard.mirror.snapshot for shard in engine.shards], Sought(tenant=viewer.tenant))
    needing = [(node, trouble(node)) for node in found if trouble(node)]
    return render(
        request,
        "overview.html",
        200 if obstacle is None else 503,
        viewer=viewer,
        obstacle=obstacle,
        cluster=cluster,
        shards=_shards(engine, cluster),
        pulse=request.app.state.pace.pulse(),
        needing=needing[:ROWS_MAX],
        more=max(len(needing) - ROWS_MAX, 0),
    )


async def course(request: Request) -> Response:
    """The last five minutes of this replica, as columns."""
    return JSONResponse(request.app.state.pace.course(), headers=HEADERS)
