"""`fleet explain`: why a demand is placed or not, asked of Redis itself, so that it works with no replica alive."""

import json

import click
from rich.console import Console
from rich.table import Table

from scheduler.cli.asking import OnRedis, on_redis
from scheduler.domain.demand import Demand, demand_from
from scheduler.domain.explanation import Explanation, NodeVerdict, merged
from scheduler.domain.ids import NodeId, PoolName, Tenant, checked_id
from scheduler.store.explaining import explain_by_redis


async def _ask(fleet: OnRedis, demand: Demand, exclude: frozenset[NodeId], *, everyone: bool) -> Explanation:
    return merged(
        [await explain_by_redis(shard.functions, demand, exclude, everyone=everyone) for shard in fleet.shards]
    )


def document(found: Explanation) -> dict[str, object]:
    """The explanation as plain values, in the shape of POST /v1/explain."""
    near = found.near_miss
    return {
        "class": found.class_,
        "reasons": found.reasons,
        "pools": [
            {"name": p.pool, "class": p.class_, "eligible": p.eligible, "reasons": p.reasons} for p in found.pools
        ],
        "near_miss": None if near is None else _node(near),
        "nodes": [_node(node) for node in found.nodes],
    }


def _node(node: NodeVerdict) -> dict[str, object]:
    pool = node.pools[0] if node.pools else None
    verdict = node.reason or "eligible"
    return {"id": node.node, "pool": pool, "verdict": verdict, "conditions": node.conditions}


def _show(console: Console, found: Explanation, limit: int) -> None:
    colour = "green" if found.class_ == "placeable" else "red"
    counts = ", ".join(f"{name} {n}" for name, n in found.reasons.items()) or "none"
    console.print(f"[bold {colour}]{found.class_}[/]   kept away: {counts}", highlight=False)
    if found.near_miss is not None and found.class_ != "placeable":
        near = found.near_miss
        console.print(f"nearest: {near.node}: {', '.join(near.conditions)}", highlight=False)
    pools = Table("pool", "alone", "eligible", "kept away", box=None)
    for pool in found.pools:
        kept = ", ".join(f"{name} {n}" for name, n in pool.reasons.items())
        pools.add_row(pool.pool, pool.class_, str(pool.eligible), kept)
    console.print(pools)
    nodes = Table("node", "pool", "verdict", "every condition", box=None)
    ordered = sorted(found.nodes, key=NodeVerdict.distance)
    for node in ordered[:limit]:
        first = node.pools[0] if node.pools else "-"
        nodes.add_row(node.node, first, node.reason or "eligible", ", ".join(node.conditions))
    console.print(nodes)
    if len(ordered) > limit:
        console.print(f"and {len(ordered) - limit} more nodes: --limit shows them")


@click.command()
@click.option("--requires", default="", help='capabilities: "asr:zh gpu"')
@click.option("--services", default="", help='language services: "asr nmt tts", with --src and --tgt')
@click.option("--src", help="language that is spoken, or auto")
@click.option("--tgt", help="language that is wanted")
@click.option("--tenant", default="default", show_default=True)
@click.option("--pool", help="this pool and its fallbacks only")
@click.option("--no-fallback", is_flag=True, help="no fallbacks")
@click.option("--exclude", default="", help="nodes to leave out")
@click.option("--all", "all_nodes", is_flag=True, help="tell of nodes outside the tenant's pools, too")
@click.option("--limit", default=40, show_default=True, type=click.IntRange(1, 100_000), help="nodes to show")
@click.option("--json", "as_json", is_flag=True, help="JSON alone on stdout")
@click.option("--redis-url", help="Redis address [default: REDIS_URL]")
@click.option("--namespace", help="first part of every key [default: fleet]")
def explain(
    requires: str,
    services: str,
    src: str | None,
    tgt: str | None,
    tenant: str,
    pool: str | None,
    exclude: str,
    limit: int,
    redis_url: str | None,
    namespace: str | None,
    *,
    no_fallback: bool,
    all_nodes: bool,
    as_json: bool,
) -> None:
    """Say why a job would be placed or not: which pools, which nodes, and which one condition is in the way.

    Exit status 0 if it could be placed now, 1 if not.
    """
    named = None if pool is None else PoolName(checked_id("--pool", pool))
    demand = demand_from(
        Tenant(checked_id("--tenant", tenant)),
        requires=requires.split(),
        services=services.split(),
        src=src,
        tgt=tgt,
        pool=named,
        fallback=not no_fallback,
    )
    excluded = frozenset(NodeId(checked_id("--exclude", node)) for node in exclude.split())
    found = on_redis(redis_url, namespace, lambda fleet: _ask(fleet, demand, excluded, everyone=all_nodes))
    if as_json:
        click.echo(json.dumps(document(found)))
    else:
        _show(Console(), found, limit)
    if found.class_ != "placeable":
        raise click.exceptions.Exit(1)
