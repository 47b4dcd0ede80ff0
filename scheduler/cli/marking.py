"""`fleet node cordon`, `uncordon`, `drain`: an operator's word about nodes, told to Redis itself."""

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from scheduler.cli.asking import AS_JSON, OnRedis, on_redis, where
from scheduler.domain.ids import NodeId, checked_id
from scheduler.store.functions import Mark


def _mark(
    named: Sequence[str],
    mark: Mark,
    drain_ms: int | None,
    redis_url: str | None,
    namespace: str | None,
    *,
    as_json: bool,
) -> None:
    ids = [NodeId(checked_id("ID", name)) for name in named]

    async def ask(fleet: OnRedis) -> dict[NodeId, str | None]:
        return {node: await fleet.of_node(node).functions.node_mark(node, mark, drain_ms) for node in ids}

    states = on_redis(redis_url, namespace, ask)
    if as_json:
        told = [{"id": node, "state": state} for node, state in states.items()]
        click.echo(msgspec.json.encode({"nodes": told}))
    for node, state in states.items():
        if state is None:
            click.echo(f"fleet: no node {node} is alive", err=True)
        elif not as_json:
            click.echo(f"{node} is {state}")
    if None in states.values():
        raise click.exceptions.Exit(1)


_IDS = click.argument("named", metavar="ID...", nargs=-1, required=True)


@click.command()
@_IDS
@AS_JSON
@where
def cordon(named: tuple[str, ...], **options: Any) -> None:
    """No new jobs for these nodes; what runs goes on."""
    _mark(named, "cordon", None, **options)


@click.command()
@_IDS
@AS_JSON
@where
def uncordon(named: tuple[str, ...], **options: Any) -> None:
    """New jobs for these nodes again, out of quarantine, too."""
    _mark(named, "uncordon", None, **options)


@click.command()
@_IDS
@click.option(
    "--drain-ms",
    default=30_000,
    show_default=True,
    type=click.IntRange(0, 86_400_000),
    help="running jobs may take this long",
)
@AS_JSON
@where
def drain(named: tuple[str, ...], drain_ms: int, **options: Any) -> None:
    """Cordon these nodes and ask them to empty: they finish what runs, or hand it back."""
    _mark(named, "drain", drain_ms, **options)
