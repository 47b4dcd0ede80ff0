"""`fleet serve`: one replica, one process, one port."""

import asyncio
import dataclasses
import gc
import ipaddress
import socket
from collections.abc import Callable

import click
import uvicorn
from msgspec.structs import replace

from scheduler.app import create_app
from scheduler.cli.observed import observed
from scheduler.cli.settings import settings_with
from scheduler.engine.engine import Engine
from scheduler.errors import BadInput, ServerUnavailable
from scheduler.http.serving import connections_within, limits_of, listening
from scheduler.logs import LEVELS
from scheduler.settings import Settings
from scheduler.store.apikeys import ApiKeys
from scheduler.store.client import connect
from scheduler.store.keys import shard_key

# Requests leave hardly any cycles: looking for them among the youngest 700 objects took a tenth of a replica's time.
_YOUNG_OBJECTS = 10_000


class _Server(uvicorn.Server):
    """Ends what would wait for longer than a shutdown does; other requests are answered as they are."""

    def __init__(self, config: uvicorn.Config, engine: Engine, end_tracing: Callable[[], None]) -> None:
        super().__init__(config)
        self._engine = engine
        self._end_tracing = end_tracing

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._engine.release()
        await super().shutdown(sockets)
        # after this the signal that ended us ends the process, too
        await asyncio.to_thread(self._end_tracing)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _has_keys(settings: Settings) -> bool:
    """Whether there is a key; also where Redis does not answer, for then nobody is let in before it does."""
    client = connect(settings.redis_url, timeout_ms=5_000)
    try:
        return bool(await ApiKeys(client, shard_key(settings.namespace)).all())
    except ServerUnavailable:
        return True
    finally:
        await client.aclose()


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65_535))
@click.option("--redis-url", help="Redis address [default: REDIS_URL]")
@click.option("--namespace", help="first part of every key [default: fleet]")
@click.option("--insecure-no-auth", is_flag=True, help="ask nobody for a key: the same as FLEET_AUTH=off")
@click.option("--log-level", type=click.Choice(LEVELS), help="the least of what is logged [default: info]")
def serve(
    host: str,
    port: int,
    redis_url: str | None,
    namespace: str | None,
    log_level: str | None,
    *,
    insecure_no_auth: bool,
) -> None:
    """Run one replica. Run as many as you like: they share nothing but Redis."""
    settings = settings_with(redis_url, namespace, log_level)
    if insecure_no_auth:
        settings = replace(settings, auth="off")
    if settings.auth == "auto" and not _is_loopback(host):
        settings = replace(settings, auth="required")
    if settings.auth == "required" and not asyncio.run(_has_keys(settings)):
        raise BadInput(
            f"--host {host}",
            "is to be served with authentication, and there is no API key: make one, "
            "`fleet apikeys create --tenant '*' --role admin`, or set FLEET_AUTH=off where the network lets in only "
            "those who may do everything",
        )
    if settings.auth == "off" and not _is_loopback(host):
        click.echo(f"fleet: serving {host} without any authentication: who reaches it may do everything", err=True)
    end_tracing = observed(settings, "fleet-replica")
    connections = connections_within(settings.connections)
    if connections < settings.connections:
        click.echo(f"fleet: at most {connections} connections, for the process may not open more files", err=True)
    app = create_app(settings)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)
    limits = dataclasses.replace(limits_of(settings), connections=connections)
    server = _Server(listening(app, host, port, limits), app.state.engine, end_tracing)
    server.run()
    if not server.started:
        raise click.exceptions.Exit(1)
