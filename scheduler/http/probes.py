"""Is it alive, is it ready, what does it count."""

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from scheduler.engine.engine import Engine
from scheduler.http.problems import Problem


async def healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def readyz(request: Request) -> Response:
    engine: Engine = request.app.state.engine
    if obstacle := engine.obstacle():
        raise Problem(503, "Not ready", obstacle, retry_after_ms=1_000)
    return PlainTextResponse("ready\n")


async def metrics(request: Request) -> Response:
    text = await run_in_threadpool(request.app.state.metrics.text)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
