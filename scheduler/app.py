"""Puts a replica together: the only place that constructs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scheduler.engine.engine import Engine
from scheduler.errors import FleetError
from scheduler.http.metrics import Counted, Metrics
from scheduler.http.openapi import document
from scheduler.http.problems import Problem, problem_response
from scheduler.http.routes import ROUTE_METHODS, routes
from scheduler.http.shedding import Shedding
from scheduler.settings import Settings

_OPENAPI = "/openapi.json"


async def _openapi(_: Request) -> Response:
    return JSONResponse(document())


def create_app(settings: Settings) -> Starlette:
    """One replica: it follows Redis from start-up to shutdown and answers also while Redis is away."""
    engine = Engine(settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await engine.start()
        try:
            yield
        finally:
            await engine.stop()

    metrics = Metrics(engine)
    app = Starlette(
        routes=[*routes(), Route(_OPENAPI, _openapi)],
        lifespan=lifespan,
        middleware=[
            Middleware(Shedding, engine=engine, shed=metrics.shed),
            Middleware(Counted, metrics=metrics, methods={**ROUTE_METHODS, _OPENAPI: frozenset({"GET"})}),
        ],
        exception_handlers={
            Problem: problem_response,
            FleetError: problem_response,
            HTTPException: problem_response,
            Exception: problem_response,
        },
    )
    app.state.engine = engine
    app.state.metrics = metrics
    return app
