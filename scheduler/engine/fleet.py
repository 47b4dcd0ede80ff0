"""Nodes and the fleet in numbers, over all shards."""

import asyncio
import bisect
import contextlib
import heapq
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal

from scheduler.domain.demand import Demand
from scheduler.domain.explanation import Explanation, merged
from scheduler.domain.ids import NodeId, PoolName, Tenant
from scheduler.domain.views import NodeView
from scheduler.engine.shard import Shard
from scheduler.engine.shards import Shards
from scheduler.errors import FleetError
from scheduler.placement.explain import explain
from scheduler.store.copying import copy_configuration
from scheduler.store.explaining import explain_by_redis
from scheduler.store.tenants import TenantReads
from scheduler.store.views import Serving

_STATES = ("ready", "cordoned", "draining", "lost")
_SUMS = ("leases", "free_nodes", "slots", "waiting_queues")


class Fleet:
    """What people ask of the fleet; placing asks nothing here."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    async def nodes(self, after: str, limit: int, tenant: Tenant) -> tuple[list[NodeView], str | None]:
        """A page of the tenant's nodes by id, and the id to go on after, or None at the end.

        Which ids exist is asked first. A node that has just left the tenant's pools makes the page shorter.
        """
        await self.refresh()
        servings = dict(
            zip(self._shards, await asyncio.gather(*(s.views.serving(tenant) for s in self._shards)), strict=True)
        )
        own = heapq.merge(*(_own(shard, serving, after) for shard, serving in servings.items()))
        page = list(islice(own, limit + 1))
        told = await self.views(page[:limit])
        shown = [servings[self._shards.of_node(NodeId(node.id))].shown(node) for node in told]
        return [node for node in shown if node is not None], page[limit - 1] if len(page) > limit else None

    async def views(self, nodes: list[NodeId]) -> list[NodeView]:
        """Those of the nodes that exist, in the order asked for."""
        by_shard: dict[Shard, list[NodeId]] = {}
        for node in nodes:
            by_shard.setdefault(self._shards.of_node(node), []).append(node)
        told = await asyncio.gather(*(shard.views.nodes(page) for shard, page in by_shard.items()))
        found = {node.id: node for page in told for node in page}
        return [found[node] for node in nodes if node in found]

    async def tenants_node(self, node: NodeId, tenant: Tenant) -> NodeView | None:
        """The node, or None where it is in no pool that serves the tenant."""
        serving = await self._shards.of_node(node).views.serving(tenant)
        return next(filter(None, map(serving.shown, await self.views([node]))), None)

    async def tenants_alone(self, node: NodeId, tenant: Tenant) -> bool | None:
        """Whether the node serves this tenant and no other; None where the tenant may not know of it."""
        if await self.tenants_node(node, tenant) is None:
            return None
        _, configuration = await self._shards.of_node(node).views.configuration()
        pools = [configuration.pools.get(PoolName(name)) for view in await self.views([node]) for name in view.pools]
        return bool(pools) and all(pool is not None and set(pool.tenants) == {tenant} for pool in pools)

    async def served(self, node: NodeId, tenant: Tenant) -> frozenset[str]:
        """The pools that serve the tenant, as the node's shard has them."""
        return (await self._shards.of_node(node).views.serving(tenant)).pools

    async def remove(self, node: NodeId) -> Literal["removed", "unknown", "fenced"]:
        """Take the node's present incarnation out of the fleet."""
        found = await self.views([node])
        if not found:
            return "unknown"
        return await self._shards.of_node(node).functions.node_remove(node, found[0].incarnation)

    async def explain(self, demand: Demand, exclude: frozenset[NodeId]) -> tuple[Explanation, int]:
        """Why the demand would be placed or not, by this replica's snapshots, and the age in ms of the oldest."""
        await self.refresh()
        full = await _full(self._shards, demand.tenant)
        told = await asyncio.gather(*(_explained(shard, demand, exclude, full=full) for shard in self._shards))
        return merged([explanation for explanation, _ in told]), max(age_ms for _, age_ms in told)

    async def refresh(self) -> None:
        """Bring the snapshots up to Redis, and the first shard's configuration to all shards."""
        with contextlib.suppress(FleetError):
            await asyncio.gather(*(shard.mirror.refresh() for shard in self._shards))
            first, *others = self._shards
            version = first.mirror.snapshot.config_version
            quotas = first.mirror.quotas.version
            if any(s.mirror.config_source < version or s.mirror.tenants_source < quotas for s in others):
                await copy_configuration(first.functions, [shard.functions for shard in others])

    async def cluster(self) -> dict[str, object]:
        """The fleet as Redis has it, beside what this replica's snapshots say; of several shards also each."""
        parts = await asyncio.gather(*(_part(shard) for shard in self._shards))
        whole = dict(parts[0])
        if len(parts) == 1:
            return whole
        for name in _SUMS:
            whole[name] = sum(int(str(part[name])) for part in parts)
        whole["nodes"] = {state: sum(part["nodes"][state] for part in parts) for state in _STATES}
        snapshots = [part["snapshot"] for part in parts]
        whole["snapshot"] = {
            "version": max(snapshot["version"] for snapshot in snapshots),
            "age_ms": max(snapshot["age_ms"] for snapshot in snapshots),
            "nodes": sum(snapshot["nodes"] for snapshot in snapshots),
        }
        whole["shards"] = {shard.tag: part for shard, part in zip(self._shards, parts, strict=True)}
        return whole


def _own(shard: Shard, serving: Serving, after: str) -> Iterator[NodeId]:
    snapshot = shard.mirror.snapshot
    seen = {shape for shape in snapshot.members if not serving.pools.isdisjoint(shape.pools)}
    start = bisect.bisect_right(snapshot.ids, after)
    return (i for i in islice(snapshot.ids, start, None) if snapshot.node(snapshot.positions[i]).shape in seen)


async def _explained(
    shard: Shard, demand: Demand, exclude: frozenset[NodeId], *, full: bool
) -> tuple[Explanation, int]:
    """While nodes are still to be brought under a new configuration Redis explains: it knows where they go."""
    with contextlib.suppress(FleetError):
        if not await shard.views.settled():
            return await explain_by_redis(shard.functions, demand, exclude), 0
    snapshot, age_ms = shard.mirror.snapshot, shard.mirror.age_ms
    # every node of a large fleet is a while: claims go on meanwhile
    return await asyncio.to_thread(explain, snapshot, demand, exclude, full=full), age_ms


async def _full(shards: Shards, tenant: Tenant) -> bool:
    """Whether the tenant has all that it may have; only Redis knows how much it has. Shards lend what is idle."""
    quota = shards.first.mirror.quotas.of(tenant).concurrent_jobs
    if quota is None:
        return False
    with contextlib.suppress(FleetError):
        held = await asyncio.gather(*(TenantReads.beside(shard.functions).leases(tenant) for shard in shards))
        return sum(held) >= quota
    return False


async def _part(shard: Shard) -> dict[str, Any]:
    meta, leases, free_nodes = await shard.views.shard()
    snapshot = shard.mirror.snapshot
    nodes = [node for node in snapshot.nodes if node is not None]
    states = Counter[str](node.state for node in nodes)
    numbers = ("abi", "revision", "version", "structure_version", "config_version")
    return {
        "epoch": meta.get("epoch", ""),
        **{name: int(meta.get(name, 0)) for name in numbers},
        "leases": leases,
        "free_nodes": free_nodes,
        "waiting_queues": shard.mirror.waiting,
        "nodes": {state: states[state] for state in _STATES},
        "slots": sum(node.slots for node in nodes if node.state != "lost"),
        "snapshot": {"version": snapshot.version, "age_ms": shard.mirror.age_ms, "nodes": len(nodes)},
    }
