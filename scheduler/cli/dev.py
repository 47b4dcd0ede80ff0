"""`fleet dev`: a server, replicas, nodes and jobs on this machine, to look at and to try things on."""

import asyncio
import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import time

import click
from rich.console import Console

from scheduler.cli.init import init_fleet
from scheduler.cli.settings import settings_with
from scheduler.dev.load import Tally, run_load, wait_nodes, wait_ready
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import EmbeddedServer, choose_server
from scheduler.errors import BadInput, ServerUnavailable
from scheduler.store.address import read_address

_FLEET = (sys.executable, "-m", "scheduler.cli.main")
_NODES = """
import asyncio, os, sys
from scheduler.dev.fleet import run_nodes
asyncio.run(run_nodes(int(sys.argv[1]), os.environ["REDIS_URL"], sys.argv[2]))
"""


def _duration_s(text: str | None) -> float | None:
    if text is None:
        return None
    units = {"ms": 0.001, "s": 1.0, "m": 60.0}
    number = text.rstrip("sm") or "?"
    try:
        seconds = float(number) * units[text[len(number) :] or "s"]
    except (KeyError, ValueError):
        seconds = 0.0
    if not 0 < seconds <= 86_400:
        raise BadInput("--duration", "must be a time such as 20s, 500ms or 2m, up to a day")
    return seconds


def _check_ports(ports: range) -> None:
    """A replica that cannot listen would only be missed after a while."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise BadInput("--port", f"{port} cannot be listened on: {error.strerror}") from error


def _line(tally: Tally, before: int, seconds: float) -> str:
    rate = (tally.placed - before) / seconds
    middle = statistics.median(tally.latencies_ms) if tally.latencies_ms else 0
    refused = ", ".join(f"{n} {name}" for name, n in sorted(tally.refused.items())) or "none"
    reasons = ", ".join(f"{name} {n}" for name, n in tally.reasons.most_common(3))
    return (
        f"[bold green]{rate:6.0f}[/] placements/s   p50 {middle:5.1f} ms   placed {tally.placed:,}   "
        f"refused: {refused}{f' (mostly {reasons})' if reasons else ''}   failed {tally.failed}"
    )


def _cli_line(url: str) -> str:
    """What an operator types to look inside; redis-cli knows no addresses of clusters and sentinels."""
    address = read_address(url)
    if address.kind == "server":
        return "redis-cli -u $REDIS_URL"
    host, port = address.hosts[0]
    return f"redis-cli -c -h {host} -p {port}" if address.kind == "cluster" else "redis-cli -h <the primary>"


def _greet(console: Console, urls: list[str], cli_line: str, namespace: str, started: str | None) -> None:
    """Lines to paste; `started` is the address of a server of our own, which no other terminal knows yet."""
    shard = f"{namespace}:{{0}}"
    console.print("\n[bold]A live fleet.[/] Replicas (any of them will do; look at one in a browser):")
    for url in urls:
        console.print(f"  [link={url}]{url}/[/link]")
    console.print("Place a job:")
    body = '{"requires": ["asr:zh"], "payload": {"text": "hello"}}'
    click.echo(f"  curl -s {urls[0]}/v1/jobs -H 'content-type: application/json' -d '{body}'")
    console.print("Look inside - who can take asr:zh right now?")
    click.echo(f"  {cli_line} SINTER '{shard}:free' '{shard}:pool:default' '{shard}:cap:asr:zh'")
    if started is not None:
        console.print("In another terminal, before redis-cli and fleet commands:")
        click.echo(f"  export REDIS_URL={started}")
    console.print("Ctrl-C ends all of it.\n")


async def _show(
    console: Console, urls: list[str], tally: Tally, duration_s: float | None, rate: float | None
) -> None:
    """Run the load and print a line a second until the time is over or somebody interrupts."""
    stopping = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, stopping.set)
    load = asyncio.create_task(run_load(urls, tally, rate)) if rate else None
    end = None if duration_s is None else time.monotonic() + duration_s
    while not stopping.is_set() and (end is None or time.monotonic() < end):
        before, started = tally.placed, time.monotonic()
        left = 1.0 if end is None else min(1.0, max(end - time.monotonic(), 0.01))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), left)
        if load is not None:
            console.print(_line(tally, before, time.monotonic() - started), highlight=False, soft_wrap=True)
            if load.done():
                load.result()
    if load is not None:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)


def _summary(console: Console, tally: Tally, seconds: float) -> None:
    busiest = tally.nodes.most_common(1)
    console.print(
        f"\n[bold]Summary:[/] {tally.placed:,} placed on {len(tally.nodes)} nodes in {seconds:.0f} s, "
        f"{sum(tally.refused.values())} refused {dict(tally.refused)}, {tally.failed} failed"
        + (f"; busiest node {busiest[0][0]} with {busiest[0][1]}" if busiest else ""),
        highlight=False,
        soft_wrap=True,
    )


@click.command()
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65_000), help="of the first replica")
@click.option("--duration", help="end after this time, such as 20s [default: until Ctrl-C]")
@click.option("--replicas", default=3, show_default=True, type=click.IntRange(1, 16))
@click.option("--nodes", default=24, show_default=True, type=click.IntRange(0, 500))
@click.option(
    "--rate", default=100.0, show_default=True, type=click.FloatRange(0.1, 2_000), help="demo jobs a second"
)
@click.option("--no-load", is_flag=True, help="no demo jobs")
def dev(port: int, duration: str | None, replicas: int, nodes: int, rate: float, *, no_load: bool) -> None:
    """A whole live fleet on this machine; everything is gone when it ends, even when it is killed."""
    started, duration_s = time.monotonic(), _duration_s(duration)
    console = Console()
    choice, remarks = choose_server(os.environ)
    for remark in (*remarks, f"server: {choice.describe()}"):
        click.echo(remark, err=True)
    _check_ports(range(port, port + replicas))
    children: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as ending:
        started_url = None
        if choice.url is None:
            server = ending.enter_context(EmbeddedServer(choice))
            url, cli_line = server.url, server.cli_line
            started_url = url
        else:
            url, cli_line = choice.url, _cli_line(choice.url)
        settings = settings_with(url)
        # replicas that see the fleet's first moment would call nothing impossible for ten seconds
        asyncio.run(init_fleet(settings, None))
        ending.callback(stop, children)
        # on the loopback, to be looked at: nobody is asked for a key, whatever keys that Redis may have; that each is
        # ready is told here
        environ = {"FLEET_LOG_LEVEL": "warning", **os.environ, "REDIS_URL": url, "FLEET_AUTH": "off"}
        urls = [f"http://127.0.0.1:{port + i}" for i in range(replicas)]
        children.extend(
            spawn_bound([*_FLEET, "serve", "--port", str(port + i)], environ=environ) for i in range(replicas)
        )
        if nodes:
            argv = [sys.executable, "-c", _NODES, str(nodes), settings.namespace]
            children.append(spawn_bound(argv, environ=environ))
        try:
            asyncio.run(wait_ready(urls, 30))
            asyncio.run(wait_nodes(urls[0], nodes, 10))
        except TimeoutError as error:
            raise ServerUnavailable(str(error)) from error
        _greet(console, urls, cli_line, settings.namespace, started_url)
        tally = Tally()
        asyncio.run(_show(console, urls, tally, duration_s, None if no_load else rate))
        if not no_load:
            _summary(console, tally, time.monotonic() - started)
