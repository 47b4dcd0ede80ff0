"""One look at the whole fleet for `fleet top`: numbers, pools, the busiest nodes and what has just happened."""

import heapq
import time
from collections import Counter

import msgspec

from scheduler.cli.asking import OnRedis
from scheduler.store.copying import pools_of_all
from scheduler.store.events import Event, order
from scheduler.store.health import Health
from scheduler.store.views import NodeView

# A look each second must stay cheap for Redis on a fleet of any size.
NODES_MAX, PAGE = 2_000, 200
BUSIEST, EVENTS = 10, 8


class PoolLine(msgspec.Struct, frozen=True):
    name: str
    members: int
    free: int


class NodeLine(msgspec.Struct, frozen=True):
    id: str
    state: str
    used: int
    slots: int
    cpu: float
    gpu: float
    mem: float


class Picture(msgspec.Struct, frozen=True):
    """The fleet now. `states`, `slots` and `used` are of the first `looked_at` nodes; rates since the last look."""

    at_ms: int
    shards: int
    frozen: list[str]
    nodes: int
    looked_at: int
    states: dict[str, int]
    slots: int
    used: int
    free_nodes: int
    leases: int
    waiting: int
    oldest_ms: int
    lost: int
    quarantined: int
    per_second: dict[str, float]
    pools: list[PoolLine]
    busiest: list[NodeLine]
    events: list[dict[str, str]]

    @property
    def ended_per_second(self) -> float:
        return sum(self.per_second.get(f"job_{how}", 0) for how in ("succeeded", "failed", "expired", "cancelled"))


class Looking:
    """Looks again and again; what happened is counted from one look to the next."""

    def __init__(self, fleet: OnRedis) -> None:
        self._fleet = fleet
        self._health = Health(fleet.first.functions.client)
        self._positions: dict[str, str] = {}
        self._looked_at = 0.0
        self._last: list[Event] = []

    async def look(self) -> Picture:
        facts = [await self._health.shard(s.tag, s.functions.shard, s.views) for s in self._fleet.shards]
        counts = [await shard.views.shard() for shard in self._fleet.shards]
        _, pools = await pools_of_all([shard.views for shard in self._fleet.shards])
        nodes = await self._nodes()
        rates = await self._happened()
        busiest = heapq.nlargest(BUSIEST, nodes, key=lambda node: (node.used / node.slots, node.cpu, node.id))
        return Picture(
            at_ms=facts[0].now_ms,
            shards=len(facts),
            frozen=[shard.tag for shard in facts if "frozen" in shard.meta],
            nodes=sum(shard.nodes for shard in facts),
            looked_at=len(nodes),
            states=dict(Counter(node.state for node in nodes).most_common()),
            slots=sum(node.slots for node in nodes if node.state != "lost"),
            used=sum(node.used for node in nodes),
            free_nodes=sum(free for _, _, free in counts),
            leases=sum(leases for _, leases, _ in counts),
            waiting=sum(shard.waiting for shard in facts),
            oldest_ms=max(shard.oldest_ms for shard in facts),
            lost=sum(shard.lost for shard in facts),
            quarantined=sum(shard.quarantined for shard in facts),
            per_second=rates,
            pools=[PoolLine(pool.name, pool.members, pool.free) for pool in pools],
            busiest=[NodeLine(n.id, n.state, n.used, n.slots, n.cpu, n.gpu, n.mem) for n in busiest],
            events=[{"at_ms": str(event.at_ms), "kind": event.kind} | event.fields for event in self._last],
        )

    async def _nodes(self) -> list[NodeView]:
        found: list[NodeView] = []
        for shard in self._fleet.shards:
            ids = await shard.views.node_ids()
            ids = ids[: max(NODES_MAX - len(found), 0)]
            for start in range(0, len(ids), PAGE):
                found += await shard.views.nodes(ids[start : start + PAGE])
        return found

    async def _happened(self) -> dict[str, float]:
        """How often a second each kind happened since the last look; keeps the last events."""
        now, seconds = time.monotonic(), time.monotonic() - self._looked_at
        heard: list[Event] = []
        for shard in self._fleet.shards:
            position = self._positions.get(shard.tag)
            page = (
                (await shard.events.before())[:EVENTS] if position is None else await shard.events.between(position)
            )
            newest = max((event.position for event in page), key=order, default=position or "0-0")
            heard += page
            self._positions[shard.tag] = newest
        first = not self._looked_at
        self._looked_at = now
        self._last = sorted([*self._last, *heard], key=lambda event: order(event.position))[-EVENTS:]
        return {} if first else {kind: round(n / seconds, 1) for kind, n in Counter(e.kind for e in heard).items()}
