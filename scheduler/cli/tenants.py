"""`fleet tenants`: what tenants may have and have, read from and written to Redis itself."""

from collections.abc import Sequence

import click
import msgspec
from rich.console import Console
from rich.table import Table

from scheduler.cli.asking import AS_JSON, OnRedis, on_redis, tell, where
from scheduler.domain.ids import Tenant
from scheduler.domain.tenants import EVERYONE, Quota, TenantView, checked_tenant
from scheduler.errors import BadInput
from scheduler.store.copying import copy_tenants
from scheduler.store.tenants import TenantReads, tenants_of_all


def _most(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _table(tenants: Sequence[TenantView]) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("tenant", overflow="fold")
    for name in ("leases", "of", "waiting", "of", "requests/s", "payload bytes"):
        table.add_column(name, justify="right")
    table.add_column("quotas")
    for tenant in tenants:
        most, everyone = tenant.in_force, tenant.name == EVERYONE
        table.add_row(
            tenant.name,
            "" if everyone else str(tenant.leases),
            _most(most.concurrent_jobs),
            "" if everyone else str(tenant.waiting),
            _most(most.waiting_jobs),
            _most(most.requests_per_s),
            _most(most.payload_bytes),
            "of all others" if everyone else "its own" if tenant.quota is not None else "none of its own",
        )
    return table


async def _read(fleet: OnRedis, only: Tenant | None) -> tuple[int, list[TenantView]]:
    return await tenants_of_all([TenantReads.beside(shard.functions) for shard in fleet.shards], only)


async def _copied(fleet: OnRedis) -> None:
    """What is told to be in force is in force in every shard; replicas would copy it, too, but a little later."""
    await copy_tenants(fleet.first.functions, [shard.functions for shard in fleet.shards[1:]])


def _list(redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    version, tenants = on_redis(redis_url, namespace, lambda fleet: _read(fleet, None))
    if as_json:
        click.echo(msgspec.json.encode({"tenants": tenants, "tenants_version": version}))
    elif tenants:
        Console().print(_table(tenants))
    else:
        click.echo("no tenant has quotas, and none has jobs that wait")


@click.group(invoke_without_command=True)
@AS_JSON
@where
@click.pass_context
def tenants(context: click.Context, redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """What each tenant may have at most, and has; without a command: list them."""
    if context.invoked_subcommand is None:
        _list(redis_url, namespace, as_json=as_json)
    elif as_json or redis_url or namespace:
        raise BadInput("fleet tenants", f"takes its options after the command {context.invoked_subcommand}")


@tenants.command(name="list")
@AS_JSON
@where
def list_tenants(redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """Every tenant that has quotas of its own or jobs that wait, with the slots that it occupies."""
    _list(redis_url, namespace, as_json=as_json)


def _show(version: int, told: list[TenantView], *, as_json: bool) -> None:
    """The one tenant that was asked for."""
    (view,) = told
    if as_json:
        click.echo(msgspec.json.encode({"tenant": view, "tenants_version": version}))
    else:
        Console().print(_table([view]))


@tenants.command()
@click.argument("name")
@AS_JSON
@where
def show(name: str, redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """One tenant, also one without quotas of its own."""
    tenant = checked_tenant("NAME", name)
    _show(*on_redis(redis_url, namespace, lambda fleet: _read(fleet, tenant)), as_json=as_json)


@tenants.command()
@click.argument("name")
@click.option("--concurrent-jobs", type=click.IntRange(0, 1_000_000), help="slots that it may occupy")
@click.option("--waiting-jobs", type=click.IntRange(0, 1_000_000), help="jobs of it that may wait")
@click.option("--requests-per-s", type=click.IntRange(1, 1_000_000), help="requests to all replicas together")
@click.option("--payload-bytes", type=click.IntRange(0, 262_144), help="of one job, as JSON")
@AS_JSON
@where
def put(name: str, redis_url: str | None, namespace: str | None, *, as_json: bool, **quotas: int | None) -> None:
    """Limit a tenant, or `*` for all that have no quotas of their own. What is left out has no limit.

    It is told once every shard decides by it. What a tenant has beyond it stays until it ends.
    """
    tenant = checked_tenant("NAME", name)
    text = msgspec.json.encode(Quota(**quotas)).decode()

    async def ask(fleet: OnRedis) -> tuple[int, list[TenantView]]:
        await fleet.first.functions.tenant_put(tenant, text)
        await _copied(fleet)
        return await _read(fleet, tenant)

    _show(*on_redis(redis_url, namespace, ask), as_json=as_json)


@tenants.command()
@click.argument("name")
@AS_JSON
@where
def remove(name: str, redis_url: str | None, namespace: str | None, *, as_json: bool) -> None:
    """Take a tenant's own quotas away; those of `*` are its from then on."""
    tenant = checked_tenant("NAME", name)

    async def ask(fleet: OnRedis) -> bool:
        removed = await fleet.first.functions.tenant_remove(tenant) == "removed"
        await _copied(fleet)
        return removed

    if not on_redis(redis_url, namespace, ask):
        click.echo(f"fleet: {tenant} has no quotas of its own", err=True)
        raise click.exceptions.Exit(1)
    tell(f"removed {tenant}", {"tenant": tenant, "outcome": "removed"}, as_json=as_json)
