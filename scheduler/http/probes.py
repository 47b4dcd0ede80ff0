"""Is it alive, is it ready, what does it count, and a page for a person."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from scheduler import __version__
from scheduler.engine.engine import Engine
from scheduler.http.problems import Problem
from scheduler.store.views import NodeView

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


async def overview(request: Request) -> Response:
    """The fleet at a glance: the first 200 nodes by id, straight from Redis."""
    engine: Engine = request.app.state.engine
    obstacle = engine.obstacle()
    nodes: list[NodeView] = []
    more: str | None = None
    cluster: dict[str, object] | None = None
    if obstacle is None:
        nodes, more = await engine.nodes("", 200)
        cluster = await engine.cluster()
    page = _pages.get_template("overview.html").render(
        version=__version__,
        obstacle=obstacle,
        nodes=nodes,
        more=more,
        cluster=cluster,
        shard=engine.functions.shard,
    )
    return HTMLResponse(page, 200 if obstacle is None else 503)
