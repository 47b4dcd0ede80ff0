"""`fleet library`: load the functions into Redis, as a step of every deployment, or look at what is there."""

import asyncio

import click

from scheduler.cli.settings import settings_with
from scheduler.errors import FleetError
from scheduler.store.client import connect
from scheduler.store.keys import shard_key
from scheduler.store.library import check_library, load_library, read_library


@click.group()
def library() -> None:
    """The function library in Redis."""


@library.command()
@click.option("--redis-url", help="Redis address [default: REDIS_URL]")
def load(redis_url: str | None) -> None:
    """Load this program's library; never goes back to a lower revision."""

    async def run() -> str:
        client = connect(settings_with(redis_url).redis_url, timeout_ms=5_000)
        try:
            return await load_library(client)
        finally:
            await client.aclose()

    click.echo(asyncio.run(run()))


@library.command()
@click.option("--redis-url", help="Redis address [default: REDIS_URL]")
def status(redis_url: str | None) -> None:
    """Say whether the server's library fits this program; exit status 1 if not."""

    async def run() -> None:
        settings = settings_with(redis_url)
        client = connect(settings.redis_url, timeout_ms=5_000)
        try:
            await check_library(client, shard_key(settings.namespace))
        finally:
            await client.aclose()

    try:
        asyncio.run(run())
    except FleetError as error:
        click.echo(str(error))
        raise click.exceptions.Exit(1) from error
    ours = read_library()
    click.echo(f"the server's library fits: ABI {ours.abi}, revision {ours.revision} or higher")
