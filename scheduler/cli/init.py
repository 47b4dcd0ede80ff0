"""`fleet init`: loads the library and divides the fleet into shards, before its first node comes."""

import asyncio

import click

from scheduler.cli.asking import AS_JSON, tell
from scheduler.cli.settings import settings_with
from scheduler.errors import BadInput
from scheduler.settings import Settings
from scheduler.store.client import connect
from scheduler.store.copying import copy_configuration
from scheduler.store.keys import shard_key, tag_of
from scheduler.store.layout import FIRST, chosen_tags, read_tags
from scheduler.store.library import load_library
from scheduler.store.moves import Moves


async def init_fleet(settings: Settings, count: int | None) -> tuple[str, tuple[str, ...]]:
    """Load the library and divide the fleet, without a count as it is; answers what was loaded and the tags."""
    client = connect(settings.redis_url, timeout_ms=5_000)
    try:
        loaded = await load_library(client)
        first = shard_key(settings.namespace, FIRST)
        held = await read_tags(client, first)
        tags = held if count is None and held else chosen_tags(count or 1)
        # those that are left must be empty, too; the first shard, which everybody asks, is told at the end
        shards = [
            Moves(client, shard_key(settings.namespace, tag)) for tag in (*sorted({*held, *tags} - {FIRST}), FIRST)
        ]
        for look in (True, False):
            # all are looked at before one is told: replicas stop where a shard speaks of another division
            for shard in shards:
                tag = tag_of(shard.shard)
                word, what = await shard.shard_init(tags if tag in tags else (*tags, tag), look=look)
                if word == "busy":
                    raise BadInput("--shards", f"cannot change while there are {what}: shard {{{tag}}} has some")
            if look:
                # a shard without a copy of the pools would serve everyone
                others = [shard for shard in shards if tag_of(shard.shard) in tags[1:]]
                await copy_configuration(Moves(client, first), others)
        return loaded, tags
    finally:
        await client.aclose()


@click.command()
@click.option("--shards", type=click.IntRange(1, 128), help="how many [default: as it is, 1 for a new fleet]")
@click.option("--redis-url", help="Redis address [default: REDIS_URL]")
@click.option("--namespace", help="first part of every key [default: fleet]")
@AS_JSON
def init(shards: int | None, redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """Load the library and say how many shards the fleet has; may be repeated.

    The number may change while no node and no job exists. Replicas that run then must be restarted.
    """
    loaded, tags = asyncio.run(init_fleet(settings_with(redis_url, namespace), shards))
    told = f"{loaded}; {len(tags)} shard{'s' if len(tags) > 1 else ''}: {' '.join(f'{{{tag}}}' for tag in tags)}"
    tell(told, {"library": loaded, "shards": tags}, as_json=as_json)
