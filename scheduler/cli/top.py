"""`fleet top`: the fleet live, on a screen, as lines where there is none, or as JSON."""

import asyncio
import contextlib

import click
import msgspec
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from scheduler.cli.asking import AS_JSON, OnRedis, on_redis, where
from scheduler.cli.events import local_time
from scheduler.cli.picture import Looking, Picture
from scheduler.errors import ServerUnavailable

_BAR = 20


def _summary(now: Picture) -> str:
    """The fleet in one line."""
    states = ", ".join(f"{count} {state}" for state, count in now.states.items()) or "none"
    more = f" of {now.nodes:,}" if now.looked_at < now.nodes else ""
    percent = f" ({now.used / now.slots:.0%})" if now.slots else ""
    parts = [
        f"nodes {states}{more}",
        f"slots {now.used:,}/{now.slots:,}{percent}",
        f"free nodes {now.free_nodes:,}",
        f"waiting {now.waiting:,}" + (f" (oldest {now.oldest_ms / 1000:,.0f} s)" if now.oldest_ms else ""),
        f"ended {now.ended_per_second:.0f}/s",
    ]
    if now.quarantined:
        parts.append(f"quarantined {now.quarantined}")
    if now.frozen:
        parts.append(f"frozen shards {' '.join(now.frozen)}")
    return "   ".join(parts)


def _pools(now: Picture) -> Table:
    table = Table("pool", box=None, header_style="bold", title="pools", title_justify="left")
    for name in ("members", "free"):
        table.add_column(name, justify="right")
    for pool in now.pools:
        table.add_row(pool.name, str(pool.members), str(pool.free))
    return table


def _busiest(now: Picture) -> Table:
    table = Table("node", "slots", "", box=None, header_style="bold", title="busiest nodes", title_justify="left")
    for name in ("cpu", "gpu", "mem"):
        table.add_column(name, justify="right")
    for node in now.busiest:
        share = min(node.used / node.slots, 1)
        filled = round(share * _BAR)
        colour = "red" if share >= 1 else "yellow" if share >= 0.8 else "green"
        bar = Text("█" * filled, colour) + Text("·" * (_BAR - filled), "dim")
        loads = (f"{load:.0f} %" for load in (node.cpu, node.gpu, node.mem))
        state = "" if node.state == "ready" else f" {node.state}"
        table.add_row(f"{node.id}{state}", f"{node.used}/{node.slots}", bar, *loads)
    return table


def _events(now: Picture) -> Table:
    table = Table("when", "what", "", box=None, header_style="bold", title="last events", title_justify="left")
    for event in reversed(now.events):
        rest = "  ".join(
            f"{name} {value}" for name, value in event.items() if name not in {"at_ms", "kind"} and value
        )
        table.add_row(local_time(int(event["at_ms"]))[11:19], event["kind"], rest)
    return table


def drawn(now: Picture, trouble: str | None = None) -> RenderableType:
    """The whole picture."""
    head = Text(f"fleet  {local_time(now.at_ms)[:19]}", "bold")
    rows: list[RenderableType] = [head, Text(_summary(now)), Text()]
    if trouble:
        rows.insert(1, Text(trouble, "bold red"))
    return Group(*rows, Columns([_pools(now), _busiest(now)], padding=(0, 4)), Text(), _events(now))


async def _run(fleet: OnRedis, console: Console, interval: float, count: int | None, *, as_json: bool) -> None:
    looking, done = Looking(fleet), 0
    now: Picture | None = None
    live = not as_json and count != 1 and console.is_terminal and not console.is_dumb_terminal
    with Live(console=console, screen=True, auto_refresh=False) if live else contextlib.nullcontext() as screen:
        while True:
            try:
                now = await looking.look()
            except ServerUnavailable as error:
                if now is None:
                    raise
                if screen is None:
                    click.echo(f"fleet: {error}; still trying", err=True)
                else:
                    screen.update(drawn(now, f"{error}; still trying"), refresh=True)
                await asyncio.sleep(interval)
                continue
            if as_json:
                click.echo(msgspec.json.encode(now))
            elif screen is not None:
                screen.update(drawn(now), refresh=True)
            elif count == 1:
                console.print(drawn(now))
            else:
                click.echo(f"{local_time(now.at_ms)[:19]}  {_summary(now)}")
            done += 1
            if done == count:
                return
            await asyncio.sleep(interval)


@click.command()
@click.option("--once", is_flag=True, help="one look")
@click.option("--count", type=click.IntRange(1), help="so many looks [default: until Ctrl-C]")
@click.option("--interval", default=1.0, show_default=True, type=click.FloatRange(0.1, 60), help="seconds")
@AS_JSON
@where
def top(
    count: int | None, interval: float, redis_url: str | None, namespace: str | None, *, once: bool, as_json: bool
) -> None:
    """The fleet live: numbers, pools, the busiest nodes, what waits and what has just happened.

    Asks Redis itself, each second. Without a terminal each look is a line; with --json an object in a line.
    """
    looks = 1 if once else count
    on_redis(redis_url, namespace, lambda fleet: _run(fleet, Console(), interval, looks, as_json=as_json))
