"""`fleet library`: load the functions into Redis, as a step of every deployment, or look at what is there."""

import asyncio

import click

from scheduler.cli.asking import AS_JSON, tell
from scheduler.cli.settings import settings_with
from scheduler.errors import FleetError
from scheduler.store.client import connect
from scheduler.store.library import check_primaries, load_library, read_library


@click.group()
def library() -> None:
    """The function library in Redis."""


@library.command()
@click.option("--redis-url", help="Redis address [default: REDIS_URL]")
@AS_JSON
def load(redis_url: str | None, *, as_json: bool) -> None:
    """Load this program's library; never goes back to a lower revision."""

    async def run() -> str:
        client = connect(settings_with(redis_url).redis_url, timeout_ms=5_000)
        try:
            return await load_library(client)
        finally:
            await client.aclose()

    told = asyncio.run(run())
    tell(told, {"library": told}, as_json=as_json)


@library.command()
@click.option("--redis-url", help="Redis address [default: REDIS_URL]")
@AS_JSON
def status(redis_url: str | None, *, as_json: bool) -> None:
    """Say whether the library of the server, or of every primary, fits this program; exit status 1 if not."""

    async def run() -> list[str]:
        client = connect(settings_with(redis_url).redis_url, timeout_ms=5_000)
        try:
            return await check_primaries(client)
        finally:
            await client.aclose()

    try:
        primaries = asyncio.run(run())
    except FleetError as error:
        tell(str(error), {"fits": False, "why": str(error)}, as_json=as_json)
        raise click.exceptions.Exit(1) from error
    ours = read_library()
    where = "the server" if len(primaries) == 1 else f"each of {', '.join(primaries)}"
    told = f"the library of {where} fits: ABI {ours.abi}, revision {ours.revision} or higher"
    document = {"fits": True, "primaries": primaries, "abi": ours.abi, "revision_at_least": ours.revision}
    tell(told, document, as_json=as_json)
