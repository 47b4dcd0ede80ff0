"""`fleet nodes`: the fleet as a table, read from Redis itself."""

from collections.abc import Sequence

import click
import msgspec
from rich.console import Console
from rich.table import Table

from scheduler.cli.asking import AS_JSON, OnRedis, on_redis, where
from scheduler.domain.ids import NodeId, checked_id
from scheduler.domain.views import NodeView

PAGE = 200
_COLOURS = {"ready": "green", "cordoned": "yellow", "draining": "yellow", "lost": "red"}
_NUMBERS = {"slots", "cpu", "gpu", "mem", "heard"}


async def _read(fleet: OnRedis, named: Sequence[NodeId]) -> tuple[list[NodeView], int]:
    """The nodes by id, or as they are named, and the server's time."""
    found: dict[str, NodeView] = {}
    for shard in fleet.shards:
        ids = [node for node in named if fleet.of_node(node) is shard] if named else await shard.views.node_ids()
        for start in range(0, len(ids), PAGE):
            found |= {node.id: node for node in await shard.views.nodes(ids[start : start + PAGE])}
    order: Sequence[str] = named or sorted(found)
    return [found[node] for node in order if node in found], await fleet.first.views.now_ms()


def _ago(ms: int) -> str:
    seconds = max(ms, 0) / 1000
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{seconds / 60:.0f} min ago"


def _table(nodes: Sequence[NodeView], now_ms: int) -> Table:
    table = Table(box=None, header_style="bold")
    for name in ("id", "state", "slots", "cpu", "gpu", "mem", "pools", "heard"):
        table.add_column(name, justify="right" if name in _NUMBERS else "left", overflow="fold")
    for node in nodes:
        state = f"[{_COLOURS.get(node.state, 'white')}]{node.state}[/]"
        loads = (f"{load:.0f} %" for load in (node.cpu, node.gpu, node.mem))
        heard = _ago(now_ms - node.heartbeat_at_ms)
        table.add_row(node.id, state, f"{node.used}/{node.slots}", *loads, " ".join(node.pools) or "-", heard)
    return table


@click.command()
@click.argument("named", metavar="[ID]...", nargs=-1)
@AS_JSON
@where
def nodes(named: tuple[str, ...], redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """Every node, or these: state, slots used and in all, load, pools, and when it was last heard of."""
    ids = [NodeId(checked_id("ID", name)) for name in named]
    found, now_ms = on_redis(redis_url, namespace, lambda fleet: _read(fleet, ids))
    if as_json:
        click.echo(msgspec.json.encode({"nodes": found}))
    elif found:
        Console().print(_table(found, now_ms))
    elif not ids:
        click.echo("no node is registered")
    unknown = set(ids) - {node.id for node in found}
    for node in sorted(unknown):
        click.echo(f"fleet: no node {node} is known", err=True)
    if unknown:
        raise click.exceptions.Exit(1)
