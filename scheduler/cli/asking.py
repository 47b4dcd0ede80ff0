"""What commands that speak to Redis itself share: their options, and a shard to ask."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import click

from scheduler.cli.settings import settings_with
from scheduler.store.client import connect, connect_blocking
from scheduler.store.events import BLOCK_MS, EventReader
from scheduler.store.functions import Functions
from scheduler.store.keys import shard_key
from scheduler.store.views import Views

T = TypeVar("T")
Command = Callable[..., None]
AS_JSON = click.option("--json", "as_json", is_flag=True, help="JSON alone on stdout")


@dataclass(frozen=True, slots=True)
class Shard:
    """Everything that may be asked of one shard."""

    functions: Functions
    views: Views
    events: EventReader


def where(command: Command) -> Command:
    command = click.option("--namespace", help="first part of every key [default: fleet]")(command)
    return click.option("--redis-url", help="Redis address [default: REDIS_URL]")(command)


def on_redis(redis_url: str | None, namespace: str | None, ask: Callable[[Shard], Awaitable[T]]) -> T:
    """Run this against the shard; no replica is needed."""
    settings = settings_with(redis_url, namespace)

    async def run() -> T:
        client = connect(settings.redis_url, timeout_ms=5_000)
        blocking = connect_blocking(settings.redis_url, block_ms=BLOCK_MS)
        key = shard_key(settings.namespace)
        try:
            return await ask(Shard(Functions(client, key), Views(client, key), EventReader(blocking, key)))
        finally:
            await client.aclose()
            await blocking.aclose()

    return asyncio.run(run())
