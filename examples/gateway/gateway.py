"""The gateway: an OpenAI-compatible door that places each request itself, with the engine in its own process."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from scheduler.agent.retrying import insist
from scheduler.domain.demand import demand_from_tokens
from scheduler.domain.ids import JobId, NodeId, Tenant
from scheduler.domain.job import JobRequest, Outcome, Placement
from scheduler.engine.dispatch import Placement as Placed
from scheduler.engine.dispatch import Refusal
from scheduler.engine.engine import Engine
from scheduler.errors import FleetError
from scheduler.settings import Settings
from scheduler.store.functions import Functions

TENANT = Tenant("default")
TRIES = 3


class Gateway:
    """Each request takes a slot on a back end, streams from it, and gives the slot back when the stream ends."""

    def __init__(self, engine: Engine, http: httpx.AsyncClient) -> None:
        self._engine, self._http = engine, http
        self._endings: set[asyncio.Task[None]] = set()

    async def complete(self, request: Request) -> Response:
        body = await request.body()
        asked = await request.json()
        conversation = request.headers.get("x-conversation")
        failed: frozenset[NodeId] = frozenset()
        for _ in range(TRIES):
            # a job that its caller delivers is its caller's to try again: elsewhere, as a job of its own
            verdict = await self._engine.place(
                JobRequest(
                    id=JobId(f"0.{secrets.token_hex(16)}"),
                    digest="-",
                    demand=demand_from_tokens([f"llm:{asked['model']}"], TENANT),
                    session=conversation,
                    affinity="sticky" if conversation else "none",
                    exclude=failed,
                    deliver="direct",
                )
            )
            if not isinstance(verdict, Placed):
                return _refused(verdict)
            place = verdict.placed.placement
            response = await self._open(place, body)
            if response is not None:
                headers = {"x-fleet-node": place.node}
                return StreamingResponse(
                    self._stream(place, response), media_type="text/event-stream", headers=headers
                )
            failed |= {place.node}
        return _error(502, f"back ends do not answer: {', '.join(sorted(failed))}")

    async def _open(self, place: Placement, body: bytes) -> httpx.Response | None:
        """The back end's answer as it begins; None where it has none, and then the slot is free again."""
        functions = await self._functions(place.job)
        if functions is not None:
            await functions.job_start(place.job, place.fence)
        request = self._http.build_request(
            "POST",
            f"{place.endpoint}/v1/chat/completions",
            content=body,
            headers={"content-type": "application/json"},
        )
        try:
            response = await self._http.send(request, stream=True)
            if response.is_success:
                return response
            await response.aclose()
        except httpx.TransportError:
            pass
        await self._finish(place, "failed")
        return None

    async def _stream(self, place: Placement, response: httpx.Response) -> AsyncIterator[bytes]:
        outcome: Outcome = "succeeded"
        try:
            async with aclosing(response):
                async for chunk in response.aiter_raw():
                    yield chunk
        except httpx.TransportError:
            # tokens have gone out already: another back end would begin again
            outcome = "failed"
            yield b'data: {"error": {"message": "the back end was lost"}}\n\n'
        finally:
            # Also where the client has left, which is no failure of the back end. That cancels what runs here, so
            # the slot is given back by a task of its own.
            ending = asyncio.create_task(self._finish(place, outcome))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)

    async def _functions(self, job: JobId) -> Functions | None:
        """Those of the shard that has the job."""
        shard = await (await self._engine.known()).jobs.shard(job, TENANT)
        return None if shard is None else shard.functions

    async def _finish(self, place: Placement, outcome: Outcome) -> None:
        async def finish() -> None:
            functions = await self._functions(place.job)
            if functions is not None:
                await functions.job_finish(place.job, place.fence, outcome)

        # Redis may be away for a moment
        await insist(finish)

    async def close(self) -> None:
        """Give the last slots back."""
        await asyncio.wait_for(asyncio.gather(*self._endings), 5)


def _error(status: int, message: str, retry_after_ms: int = 0) -> Response:
    headers = {"retry-after": str(max(1, retry_after_ms // 1000))} if retry_after_ms else None
    return JSONResponse({"error": {"message": message, "type": "fleet"}}, status, headers)


def _refused(verdict: object) -> Response:
    if not isinstance(verdict, Refusal):
        return _error(500, f"not placed: {verdict}")
    reasons = ", ".join(f"{count} {reason}" for reason, count in verdict.reasons.items())
    status = 404 if verdict.refusal == "impossible" else 503
    return _error(status, f"no back end: {verdict.refusal} ({reasons})", verdict.retry_after_ms)


def create(redis_url: str) -> Starlette:
    engine = Engine(Settings(redis_url=redis_url))
    http = httpx.AsyncClient(timeout=httpx.Timeout(30, connect=1))
    gateway = Gateway(engine, http)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.engine = engine
        await engine.start()
        try:
            yield
        finally:
            await gateway.close()
            await engine.stop()
            await http.aclose()

    async def ready(_: Request) -> Response:
        obstacle = engine.obstacle()
        return JSONResponse({"obstacle": obstacle}, 200 if obstacle is None else 503)

    async def slots(_: Request) -> Response:
        """How many slots are taken on each back end, for the eye."""
        nodes, _cursor = await (await engine.known()).fleet.nodes("", 200, TENANT)
        return JSONResponse({node.id: node.used for node in nodes if node.state == "ready"})

    async def unavailable(_: Request, error: Exception) -> Response:
        return _error(503, str(error), 1_000)

    return Starlette(
        routes=[
            Route("/v1/chat/completions", gateway.complete, methods=["POST"]),
            Route("/readyz", ready),
            Route("/slots", slots),
        ],
        lifespan=lifespan,
        exception_handlers={FleetError: unavailable},
    )
