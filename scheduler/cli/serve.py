"""`fleet serve`: one replica, one process, one port."""

import gc
import ipaddress
import socket
from dataclasses import replace

import click
import uvicorn

from scheduler.app import create_app
from scheduler.cli.settings import settings_with
from scheduler.engine.engine import Engine
from scheduler.errors import BadInput
from scheduler.http.serving import connections_within, limits_of, listening

# Requests leave hardly any cycles: looking for them among the youngest 700 objects took a tenth of a replica's time.
_YOUNG_OBJECTS = 10_000


class _Server(uvicorn.Server):
    """Ends what would wait for longer than a shutdown does; other requests are answered as they are."""

    def __init__(self, config: uvicorn.Config, engine: Engine) -> None:
        super().__init__(config)
        self._engine = engine

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._engine.release()
        await super().shutdown(sockets)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65_535))
@click.option("--redis-url", help="Redis address [default: REDIS_URL]")
@click.option("--namespace", help="first part of every key [default: fleet]")
@click.option("--insecure-no-auth", is_flag=True, help="serve beyond the loopback without any authentication")
@click.option("--log-level", default="warning", type=click.Choice(["debug", "info", "warning", "error"]))
def serve(
    host: str, port: int, redis_url: str | None, namespace: str | None, log_level: str, *, insecure_no_auth: bool
) -> None:
    """Run one replica. Run as many as you like: they share nothing but Redis."""
    if not _is_loopback(host) and not insecure_no_auth:
        raise BadInput("--host", "must be a loopback address, or add --insecure-no-auth: there are no keys yet")
    if not _is_loopback(host):
        click.echo(f"fleet: serving {host} without any authentication", err=True)
    settings = settings_with(redis_url, namespace)
    connections = connections_within(settings.connections)
    if connections < settings.connections:
        click.echo(f"fleet: at most {connections} connections, for the process may not open more files", err=True)
    app = create_app(settings)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)
    limits = replace(limits_of(settings), connections=connections)
    server = _Server(listening(app, host, port, log_level, limits), app.state.engine)
    server.run()
    if not server.started:
        raise click.exceptions.Exit(1)
