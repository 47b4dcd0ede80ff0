"""`fleet shard`: the shards one by one, and stopping one while its hash slot moves to another server."""

import asyncio
from typing import Literal

import click
import msgspec
from rich.console import Console
from rich.table import Table

from scheduler.cli.asking import AS_JSON, OnRedis, Shard, on_redis, tell, where
from scheduler.cli.settings import settings_with
from scheduler.errors import FleetError
from scheduler.store.address import read_address
from scheduler.store.resharding import Resharding


class ShardLine(msgspec.Struct, frozen=True):
    """One shard; `free` counts the nodes that can take a job now.

    `config_version` is the first shard's, also of a copy: one with a lower number decides by older pools.
    """

    tag: str
    nodes: int = 0
    free: int = 0
    leases: int = 0
    config_version: int = 0
    frozen: bool = False
    failure: str = ""


async def _line(part: Shard) -> ShardLine:
    try:
        meta, leases, free = await part.views.shard()
        nodes = len(await part.views.node_ids())
    except FleetError as error:
        # it is asked for when a shard is away most of all
        return ShardLine(part.tag, failure=str(error))
    version = int(meta.get("config_source") or meta.get("config_version") or 0)
    return ShardLine(part.tag, nodes, free, leases, version, "frozen" in meta)


@click.group()
def shard() -> None:
    """The parts that a fleet is divided into, each in one hash slot."""


@shard.command(name="list")
@AS_JSON
@where
def list_shards(redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """Every shard with its nodes and leases."""

    async def ask(fleet: OnRedis) -> list[ShardLine]:
        # one after the other: of a shard that moves redis-py asks at both places only on one connection
        return [await _line(part) for part in fleet.shards]

    lines = on_redis(redis_url, namespace, ask)
    if as_json:
        click.echo(msgspec.json.encode({"shards": lines}))
        return
    table = Table(*ShardLine.__struct_fields__, box=None, header_style="bold")
    for line in lines:
        table.add_row(*(str(value) for value in msgspec.structs.astuple(line)))
    Console().print(table)


def _all(
    what: Literal["freeze", "thaw"],
    tags: tuple[str, ...],
    redis_url: str | None,
    namespace: str | None,
    *,
    as_json: bool,
) -> None:
    async def ask(fleet: OnRedis) -> dict[str, str]:
        parts = [fleet.tagged(tag) for tag in tags]
        words = await asyncio.gather(*(part.functions.shard_freeze(what) for part in parts))
        return {part.tag: word for word, part in zip(words, parts, strict=True)}

    told = on_redis(redis_url, namespace, ask)
    tell("\n".join(f"{word} {{{tag}}}" for tag, word in told.items()), {"shards": told}, as_json=as_json)


@shard.command()
@click.argument("tag")
@click.argument("to", metavar="HOST:PORT")
@AS_JSON
@where
def move(tag: str, to: str, redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """Move a shard of a Redis Cluster to another primary, while the fleet runs.

    The server does it in one step where it can (Valkey 9); else the shard is frozen meanwhile. May be repeated.
    """
    options = read_address(settings_with(redis_url, namespace).redis_url).options
    login = (str(options.get("username", "default")), str(options["password"])) if "password" in options else None

    async def ask(fleet: OnRedis) -> str:
        part = fleet.tagged(tag)
        return await Resharding(part.functions.client, part.functions.shard, login).move(to)

    told = on_redis(redis_url, namespace, ask)
    tell(told, {"shard": tag, "to": to, "said": told}, as_json=as_json)


@shard.command()
@click.argument("tags", metavar="TAG...", nargs=-1, required=True)
@AS_JSON
@where
def freeze(tags: tuple[str, ...], redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """Stop these shards: nothing in them changes, their clocks stand still, requests wait or get 503."""
    _all("freeze", tags, redis_url, namespace, as_json=as_json)


@shard.command()
@click.argument("tags", metavar="TAG...", nargs=-1, required=True)
@AS_JSON
@where
def thaw(tags: tuple[str, ...], redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """Let these shards go on."""
    _all("thaw", tags, redis_url, namespace, as_json=as_json)
