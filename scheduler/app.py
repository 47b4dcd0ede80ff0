"""Puts a replica together: the only place that constructs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scheduler.engine.engine import Engine
from scheduler.errors import FleetError
from scheduler.http.access import Authenticated
from scheduler.http.body import Bodies
from scheduler.http.limiting import Limited
from scheduler.http.metrics import Counted, Metrics
from scheduler.http.named import Named
from scheduler.http.openapi import document
from scheduler.http.problems import Problem, problem_response
from scheduler.http.routes import OPERATIONS, methods_of, routes
from scheduler.http.shedding import Shedding
from scheduler.settings import Settings
from scheduler.ui.pace import Pace
from scheduler.ui.routes import PAGES, page_of

_OPENAPI = "/openapi.json"
# Who asks is of no matter here; a path that ends in a parameter stands for all that begin like it.
_OPEN = (_OPENAPI, *(o.path.partition("{")[0] for o in (*OPERATIONS, *PAGES) if o.roles is None))


@cache
def _described() -> bytes:
    # made once: it is long, and anybody may ask for it
    return bytes(JSONResponse(document()).body)


async def _openapi(_: Request) -> Response:
    return Response(_described(), media_type="application/json")


def create_app(settings: Settings) -> Starlette:
    """One replica: it follows Redis from start-up to shutdown and answers also while Redis is away."""
    engine = Engine(settings)

    metrics = Metrics(engine)
    pace = Pace(metrics.registry)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await engine.start()
        pacing = asyncio.create_task(pace.run())
        try:
            yield
        finally:
            pacing.cancel()
            await engine.stop()

    app = Starlette(
        routes=[*routes(), *routes(PAGES, page_of), Route(_OPENAPI, _openapi)],
        lifespan=lifespan,
        middleware=[
            Middleware(Named, access_log=settings.access_log == "on"),
            Middleware(Shedding, engine=engine, shed=metrics.shed),
            Middleware(
                Counted, metrics=metrics, methods={**methods_of((*OPERATIONS, *PAGES)), _OPENAPI: frozenset({"GET"})}
            ),
            Middleware(Authenticated, keyring=engine.keyring, open_paths=frozenset(_OPEN)),
            Middleware(Limited, engine=engine),
        ],
        exception_handlers={
            Problem: problem_response,
            FleetError: problem_response,
            HTTPException: problem_response,
            Exception: problem_response,
        },
    )
    # each path has one spelling: a redirect would be an answer that no reader of the API expects
    app.router.redirect_slashes = False
    app.state.engine = engine
    app.state.metrics = metrics
    app.state.bodies = Bodies()
    app.state.pace = pace
    return app
