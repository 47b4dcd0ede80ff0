"""A whole replica in this process, spoken to in JSON and in msgpack, on a real server."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import pytest
from starlette.applications import Starlette

from scheduler.app import create_app
from scheduler.settings import Settings

JSON, MSGPACK = "application/json", "application/msgpack"


@dataclass(frozen=True)
class Told:
    """An answer: status, headers and the decoded body."""

    status: int
    headers: httpx.Headers
    body: Any

    @property
    def kind(self) -> str:
        return self.headers["content-type"]


@dataclass(frozen=True)
class Speaker:
    """Speaks one of the two formats, in both directions."""

    client: httpx.AsyncClient
    packed: bool
    app: Starlette

    async def followed(self) -> None:
        """Let the snapshot, from which reasons are counted, see all that has happened."""
        await self.app.state.engine.parts.fleet.refresh()

    @property
    def kind(self) -> str:
        return MSGPACK if self.packed else JSON

    @property
    def problem_kind(self) -> str:
        return "application/problem+msgpack" if self.packed else "application/problem+json"

    async def __call__(self, method: str, path: str, body: object = None, *, tenant: str | None = None) -> Told:
        encoded = msgspec.msgpack.encode(body) if self.packed else msgspec.json.encode(body)
        return await self.raw(method, path, None if body is None else encoded, tenant=tenant)

    async def raw(
        self,
        method: str,
        path: str,
        content: bytes | AsyncIterator[bytes] | None,
        *,
        kind: str = "",
        tenant: str | None = None,
    ) -> Told:
        headers = {"content-type": kind or self.kind, "accept": self.kind}
        if tenant is not None:
            headers["x-fleet-tenant"] = tenant
        response = await self.client.request(method, path, content=content, headers=headers)
        answered = response.headers.get("content-type", "")
        if answered.endswith("json"):
            return Told(response.status_code, response.headers, msgspec.json.decode(response.content))
        if answered.endswith("msgpack"):
            return Told(response.status_code, response.headers, msgspec.msgpack.decode(response.content))
        return Told(response.status_code, response.headers, response.text)

    async def refused(
        self, method: str, path: str, body: object, status: int, field: str | None = None, **more: Any
    ) -> Told:
        """The answer, which must be a problem of this status in the format that was asked for."""
        return self.problem(await self(method, path, body, **more), status, field)

    def problem(self, told: Told, status: int, field: str | None = None) -> Told:
        assert (told.status, told.kind) == (status, self.problem_kind), told
        assert told.body["status"] == status
        assert told.body["type"].startswith("urn:fleet:")
        assert told.body["title"]
        assert told.body.get("field") == field, told.body
        return told

    async def register(self, node: str, slots: int = 4, capabilities: tuple[str, ...] = ("asr:zh",)) -> int:
        body = {
            "endpoint": f"http://{node}.example:9000",
            "slots": slots,
            "capabilities": list(capabilities),
            "ttl_ms": 60_000,
        }
        told = await self("PUT", f"/v1/nodes/{node}", body)
        assert told.status == 201, told
        return int(told.body["incarnation"])


async def ready(app: Starlette, deadline_s: float = 10.0) -> None:
    end = time.monotonic() + deadline_s
    while (obstacle := app.state.engine.obstacle()) is not None:
        assert time.monotonic() < end, obstacle
        await asyncio.sleep(0.01)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[tuple[Starlette, httpx.AsyncClient]]:
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://replica", timeout=30) as client,
    ):
        yield app, client


@pytest.fixture
async def app_client(redis_url: str) -> AsyncIterator[tuple[Starlette, httpx.AsyncClient]]:
    async with running(Settings(redis_url=redis_url)) as (app, client):
        await ready(app)
        yield app, client


@pytest.fixture
def plain(app_client: tuple[Starlette, httpx.AsyncClient]) -> httpx.AsyncClient:
    """A client without a format of its own."""
    return app_client[1]


@pytest.fixture(params=["json", "msgpack"])
def speak(app_client: tuple[Starlette, httpx.AsyncClient], request: pytest.FixtureRequest) -> Speaker:
    app, client = app_client
    return Speaker(client, request.param == "msgpack", app)
