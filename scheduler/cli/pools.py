"""`fleet pools`: the configuration of pools, read from and written to Redis itself, with no replica between."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from scheduler.cli.asking import AS_JSON, OnRedis, on_redis, tell, where
from scheduler.cli.pools_file import PoolsFile, read_pools
from scheduler.domain.configuration import Change, Configuration, difference
from scheduler.domain.ids import PoolName, checked_id
from scheduler.domain.pool import Selector
from scheduler.domain.views import PoolView
from scheduler.errors import BadInput
from scheduler.store.copying import copy_configuration, pools_of_all, remove_pool
from scheduler.store.functions import Applied, Functions
from scheduler.store.views import Views

# No configuration has this version, so an apply that names it is judged and then changes nothing.
_NEVER = 2**53


def _selected(pool: PoolView) -> str:
    if pool.languages:
        return f"automatic: {' '.join(pool.languages)}"
    selector: Selector = pool.selector
    labels = (f"{name}={value}" for name, value in sorted(selector.labels.items()))
    return " ".join((*selector.capabilities, *labels)) or "all"


def _pools_table(pools: Sequence[PoolView]) -> Table:
    table = Table(box=None, header_style="bold")
    for name in ("name", "members", "free", "tenants", "strategy", "priority", "fallback", "selects"):
        table.add_column(
            name, justify="right" if name in {"members", "free", "priority"} else "left", overflow="fold"
        )
    for pool in pools:
        tenants, fallback = " ".join(pool.tenants), " ".join(pool.fallback) or "-"
        counts = (str(pool.members), str(pool.free))
        table.add_row(pool.name, *counts, tenants, pool.strategy, str(pool.priority), fallback, _selected(pool))
    return table


def _list(redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    version, pools = on_redis(
        redis_url, namespace, lambda fleet: pools_of_all([shard.views for shard in fleet.shards])
    )
    if as_json:
        click.echo(msgspec.json.encode({"pools": pools, "config_version": version}))
    elif pools:
        Console().print(_pools_table(pools))
    else:
        click.echo("no pool is left: no request can be placed")


@click.group(invoke_without_command=True)
@AS_JSON
@where
@click.pass_context
def pools(context: click.Context, redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """Named selectors over nodes, with the tenants that they serve; without a command: list them."""
    if context.invoked_subcommand is None:
        _list(redis_url, namespace, as_json=as_json)
    elif as_json or redis_url or namespace:
        raise BadInput("fleet pools", f"takes its options after the command {context.invoked_subcommand}")


@pools.command(name="list")
@AS_JSON
@where
def list_pools(redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """Every pool, automatic ones included, with its members and those that can take a job now."""
    _list(redis_url, namespace, as_json=as_json)


def _said(value: object) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _fields(value: object) -> str:
    told = value if isinstance(value, dict) else {}
    return "   ".join(f"{name} {_said(held)}" for name, held in told.items()) or "with every default"


def _line(change: Change) -> tuple[str, str]:
    """One difference as text, and its colour."""
    match change.kind:
        case "added":
            return f"+ {change.at}  {_fields(change.new)}", "green"
        case "changed":
            return f"~ {change.at}  {_said(change.old)} -> {_said(change.new)}", "yellow"
        case "removed":
            return f"- {change.at}", "red"


def _show(console: Console, changes: Sequence[Change], new: Configuration) -> None:
    for change in changes:
        text, colour = _line(change)
        console.print(text, style=colour, markup=False, highlight=False, soft_wrap=True)
    if not new.pools:
        console.print(
            "no configured pool will be left: what no language pool takes is refused",
            style="bold red",
            soft_wrap=True,
        )


async def _plan(functions: Functions, views: Views, file: PoolsFile) -> tuple[int, Configuration, tuple[Change, ...]]:
    """Redis judges the file, which changes nothing; then what it would change, and at which version that was seen."""
    try:
        await functions.pools_apply(_NEVER, file.text)
    except BadInput as error:
        raise file.bad(error.field, error.what) from error
    version, held = await views.configuration()
    new = file.configuration()
    if not version and held.pools.keys() <= new.pools.keys():
        # the built-in pool ends with the first pool that is configured: a file that keeps it must be stored
        held = Configuration()
    return version, new, difference(held, new)


async def _applied(fleet: OnRedis, version: int, text: str) -> Applied:
    done = await fleet.first.functions.pools_apply(version, text)
    await _copied(fleet)
    return done


async def _copied(fleet: OnRedis) -> None:
    """What is in force in every shard is in force; replicas would copy it, too, but a little later."""
    await copy_configuration(fleet.first.functions, [shard.functions for shard in fleet.shards[1:]])


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise BadInput("--yes", "must be given where there is no terminal to ask at")
    return click.confirm("Apply this?", err=True)


@pools.command()
@click.option("-f", "--file", required=True, type=click.Path(path_type=Path), help="TOML with [pools.<name>] tables")
@click.option("--yes", is_flag=True, help="do not ask")
@click.option("--dry-run", is_flag=True, help="show the difference and change nothing")
@AS_JSON
@where
def apply(
    file: Path, redis_url: str | None, namespace: str | None, *, yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Make the pools what FILE says, all in one step, after showing what that changes.

    Exit status 1 if another change came in between: then nothing was applied.
    """
    read = read_pools(file)
    version, new, changes = on_redis(
        redis_url, namespace, lambda fleet: _plan(fleet.first.functions, fleet.first.views, read)
    )
    if changes and not (as_json and (yes or dry_run)):
        _show(Console(stderr=as_json), changes, new)
    done: Applied | None = None
    if changes and not dry_run:
        if not yes and not _agreed():
            click.echo("fleet: nothing was applied", err=True)
            raise click.exceptions.Exit(1)
        done = on_redis(redis_url, namespace, lambda fleet: _applied(fleet, version, read.text))
    applied = done is not None and done.done
    if as_json:
        now = version if done is None else done.config_version
        click.echo(msgspec.json.encode({"changes": changes, "applied": applied, "config_version": now}))
    if done is not None and not applied:
        click.echo("fleet: the configuration was changed meanwhile: nothing was applied, look again", err=True)
        raise click.exceptions.Exit(1)
    if not as_json and not changes:
        click.echo("nothing to change")
    elif not as_json and applied:
        click.echo("applied; nodes follow with their next heartbeats or the claims that meet them first")


@pools.command()
@click.argument("name")
@AS_JSON
@where
def remove(name: str, redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """Take one pool out; its nodes stay."""
    pool = PoolName(checked_id("NAME", name))

    async def ask(fleet: OnRedis) -> bool:
        removed = await remove_pool(fleet.first.functions, [shard.views for shard in fleet.shards], pool)
        await _copied(fleet)
        return removed

    if not on_redis(redis_url, namespace, ask):
        click.echo(f"fleet: no pool {pool} is configured", err=True)
        raise click.exceptions.Exit(1)
    tell(f"removed {pool}", {"pool": pool, "outcome": "removed"}, as_json=as_json)
