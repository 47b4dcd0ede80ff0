"""What commands that speak to Redis itself share: their options, and the shards to ask."""

import asyncio
import getpass
import platform
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TypeVar

import click
import msgspec

from scheduler.cli.settings import settings_with
from scheduler.domain.shards import home_tag, job_tag
from scheduler.errors import ServerUnavailable
from scheduler.store.actor import Acting
from scheduler.store.client import connect, connect_blocking
from scheduler.store.events import BLOCK_MS, EventReader
from scheduler.store.keys import audit_key, events_key, shard_key
from scheduler.store.layout import FIRST, read_tags
from scheduler.store.moves import Moves
from scheduler.store.views import Views

T = TypeVar("T")
Command = Callable[..., None]
AS_JSON = click.option("--json", "as_json", is_flag=True, help="JSON alone on stdout")


@dataclass(frozen=True, slots=True)
class Shard:
    """Everything that may be asked of one shard."""

    tag: str
    functions: Moves
    views: Views
    events: EventReader
    audit: EventReader


@dataclass(frozen=True, slots=True)
class OnRedis:
    """The shards in order; the first has the configuration of all."""

    shards: tuple[Shard, ...]

    @property
    def first(self) -> Shard:
        return self.shards[0]

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(shard.tag for shard in self.shards)

    def tagged(self, tag: str) -> Shard:
        for shard in self.shards:
            if shard.tag == tag:
                return shard
        raise ServerUnavailable(f"the fleet has no shard {{{tag}}}")

    def of_node(self, node: str) -> Shard:
        return self.tagged(home_tag(self.tags, node))

    def of_job(self, job: str) -> Shard:
        return self.tagged(job_tag(self.tags, job))


def tell(text: str, document: object, *, as_json: bool) -> None:
    """One sentence for people, or the document for programs."""
    click.echo(msgspec.json.encode(document) if as_json else text)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # a number that has no name here, as in a container
        return "-"


def where(command: Command) -> Command:
    command = click.option("--namespace", help="first part of every key [default: fleet]")(command)
    return click.option("--redis-url", help="Redis address [default: REDIS_URL]")(command)


def on_redis(redis_url: str | None, namespace: str | None, ask: Callable[[OnRedis], Awaitable[T]]) -> T:
    """Run this against the shards; no replica is needed."""
    settings = settings_with(redis_url, namespace)

    async def run() -> T:
        async with AsyncExitStack() as opened:
            client = connect(settings.redis_url, timeout_ms=5_000)
            opened.push_async_callback(client.aclose)

            def shard(tag: str) -> Shard:
                key = shard_key(settings.namespace, tag)
                blocking = connect_blocking(settings.redis_url, block_ms=BLOCK_MS)
                opened.push_async_callback(blocking.aclose)
                return Shard(
                    tag,
                    Moves(client, key),
                    Views(client, key),
                    EventReader(blocking, events_key(key)),
                    EventReader(blocking, audit_key(key)),
                )

            tags = await read_tags(client, shard_key(settings.namespace, FIRST)) or (FIRST,)
            return await ask(OnRedis(tuple(map(shard, tags))))

    with Acting(lambda: f"cli:{_user()}@{platform.node()}"):
        return asyncio.run(run())
