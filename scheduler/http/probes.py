"""Is it alive, is it ready, what does it count, and a page for a person."""

import heapq
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from scheduler import __version__
from scheduler.domain.ids import NodeId
from scheduler.domain.views import NodeView
from scheduler.engine.engine import Engine
from scheduler.errors import FleetError
from scheduler.http.problems import Problem
from scheduler.placement.snapshot import Snapshot

ROWS_MAX = 200
_STATES = ("lost", "draining", "cordoned", "ready")
_pages = Environment(
    loader=FileSystemLoader(Path(__file__).parents[1] / "ui"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


async def healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def readyz(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    if obstacle := engine.obstacle():
        raise Problem(503, "Not ready", obstacle, retry_after_ms=1_000)
    return PlainTextResponse("ready\n")


async def metrics(request: Request) -> Response:
    text = await run_in_threadpool(generate_latest, request.app.state.metrics.registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def _first(snapshots: Sequence[Snapshot]) -> list[NodeId]:
    """The ids of the first nodes by state, trouble first, then by id."""
    found: dict[str, list[NodeId]] = {state: [] for state in _STATES}
    ids_of = ([(node, snapshot) for node in snapshot.ids] for snapshot in snapshots)
    for node, snapshot in heapq.merge(*ids_of, key=lambda pair: pair[0]):
        ids = found[snapshot.node(snapshot.positions[node]).state]
        if len(ids) < ROWS_MAX:
            ids.append(node)
    return [node for ids in found.values() for node in ids][:ROWS_MAX]


async def overview(request: Request) -> Response:
    """The fleet at a glance: which nodes to show is the snapshot's word, what is told of them is Redis's."""
    engine: Engine = request.app.state.engine
    obstacle = engine.obstacle()
    nodes: list[NodeView] = []
    cluster: dict[str, object] = {}
    if obstacle is None:
        try:
            nodes = await engine.parts.fleet.views(_first([shard.mirror.snapshot for shard in engine.shards]))
            cluster = await engine.parts.fleet.cluster()
        except FleetError as error:
            obstacle = str(error)
    page = _pages.get_template("overview.html").render(
        version=__version__,
        obstacle=obstacle,
        nodes=nodes,
        more=max(sum(len(shard.mirror.snapshot.ids) for shard in engine.shards) - ROWS_MAX, 0),
        cluster=cluster,
        shard=engine.first.key,
    )
    return HTMLResponse(page, 200 if obstacle is None else 503)
