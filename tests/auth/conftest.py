"""A fleet of two tenants with keys of every role, and replicas that ask for them."""

import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from scheduler.domain.apikey import ApiKey, KeyId, Role, key_text, new_key
from scheduler.settings import Settings
from scheduler.store.client import connect
from scheduler.store.functions import Functions
from tests.integration.http.conftest import ready, running
from tests.sharded import Shards

P = "fleet:{0}"
LONG_MS = 600_000


@dataclass
class Keys:
    """Makes keys as the command line does, on this server."""

    functions: Functions
    made: dict[str, str] = field(default_factory=dict)

    async def put(self, key: ApiKey, secret: str, id_: KeyId | None = None) -> tuple[KeyId, str]:
        known = id_ or KeyId(secrets.token_hex(8))
        assert await self.functions.apikey_put(known, key) == "stored"
        return known, key_text(known, secret)

    async def make(
        self, tenant: str, role: Role, *, node: str | None = None, expires_ms: int | None = None
    ) -> tuple[KeyId, str]:
        secret = secrets.token_urlsafe(32)
        return await self.put(
            new_key(secret, tenant, role, int(time.time() * 1000), node=node, expires_ms=expires_ms), secret
        )

    async def text(self, tenant: str, role: Role, *, node: str | None = None) -> str:
        return (await self.make(tenant, role, node=node))[1]


@pytest.fixture
async def keys(redis_url: str) -> AsyncIterator[Keys]:
    client = connect(redis_url, timeout_ms=5_000)
    yield Keys(Functions(client, P))
    await client.aclose()


def bearer(key: str | None, **more: str) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return named if key is None else {"authorization": f"Bearer {key}", **named}


@dataclass
class Fleet:
    """A replica, and what each tenant has.

    The node acme-1 and the pool acme are acme's alone, and so for globex; both are served by the node shared-1.
    """

    http: httpx.AsyncClient
    app: Starlette
    keys: Keys
    admin: str
    shards: Shards
    incarnations: dict[str, int] = field(default_factory=dict)

    async def ask(self, method: str, path: str, key: str | None, body: object = None, **more: str) -> httpx.Response:
        return await self.http.request(method, path, json=body, headers=bearer(key, **more))

    async def register(self, node: str, key: str, **labels: str) -> httpx.Response:
        body = {"endpoint": f"http://{node}", "slots": 50, "capabilities": ["asr:zh", f"only:{node}"],
                "labels": labels, "ttl_ms": LONG_MS}  # fmt: skip
        return await self.ask("PUT", f"/v1/nodes/{node}", key, body)

    async def place(self, key: str, requires: str = "asr:zh", **more: Any) -> Any:
        body = {"requires": [requires], "deliver": "direct", **more}
        told = await self.ask("POST", "/v1/jobs", key, body)
        assert told.status_code in {200, 201}, told.text
        return told.json()["job"]

    async def seen(self) -> None:
        await self.app.state.engine.parts.fleet.refresh()


@pytest.fixture
async def two_tenants(redis_url: str, keys: Keys, shards: Shards) -> AsyncIterator[Fleet]:
    admin = await keys.text("*", "admin")
    async with running(Settings(redis_url=redis_url, auth="required")) as (app, http):
        await ready(app)
        fleet = Fleet(http, app, keys, admin, shards)
        for pool, tenants in (("acme", ["acme"]), ("globex", ["globex"]), ("shared", ["acme", "globex"])):
            told = await fleet.ask("PUT", f"/v1/pools/{pool}", admin,
                                   {"selector": {"labels": {"of": pool}}, "tenants": tenants})  # fmt: skip
            assert told.status_code == 200, told.text
        for node, of in (("acme-1", "acme"), ("globex-1", "globex"), ("shared-1", "shared")):
            told = await fleet.register(node, admin, of=of)
            assert told.json()["pools"] == [of]
            fleet.incarnations[node] = int(told.json()["incarnation"])
        await fleet.seen()
        yield fleet
