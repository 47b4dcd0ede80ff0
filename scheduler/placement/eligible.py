"""Demands compiled against a snapshot's structure: which nodes could ever take such a job, pool by pool."""

from collections import OrderedDict
from dataclasses import dataclass, field

from scheduler.domain.demand import Demand
from scheduler.domain.ids import PoolName
from scheduler.domain.pool import Strategy, pool_order
from scheduler.placement.filters import Wanted, shape_obstacle
from scheduler.placement.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Tier:
    """The eligible nodes whose best pool this is; `ceiling` is the largest number of slots among them.

    `front` changes in place: the fullest nodes that draws of a `pack` pool have met. `d` None: the replica's own.
    """

    pool: PoolName
    rank: int
    positions: list[int]
    ceiling: int
    strategy: Strategy = "spread"
    d: int | None = None
    front: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Eligible:
    """A compiled demand; holds while the snapshot's structure and pool configuration stay as they are."""

    wanted: Wanted
    tiers: tuple[Tier, ...]


def wanted_by(snapshot: Snapshot, demand: Demand) -> Wanted:
    pools, tenant = snapshot.pools, demand.tenant
    order = pool_order(pools, tenant, demand.pool, fallback=demand.fallback, languages=demand.languages)
    return Wanted(demand, order, frozenset(name for name, pool in pools.items() if pool.serves(tenant)))


def compile_demand(snapshot: Snapshot, demand: Demand) -> Eligible:
    """Work for each distinct shape, plus a copy of the matching positions; never done per request."""
    wanted = wanted_by(snapshot, demand)
    order = wanted.order
    by_rank: dict[int, list[int]] = {}
    for shape, positions in snapshot.members.items():
        if shape_obstacle(wanted, shape) is None:
            rank = next(rank for rank, pool in enumerate(order, 1) if pool in shape.pools)
            by_rank.setdefault(rank, []).extend(positions)
    tiers: list[Tier] = []
    for rank, found in sorted(by_rank.items()):
        name = order[rank - 1]
        pool, ceiling = snapshot.pools[name], max(snapshot.node(p).slots for p in found)
        tiers.append(Tier(name, rank, found, ceiling, pool.strategy, pool.d))
    return Eligible(wanted, tuple(tiers))


class Compiled:
    """The most recently used compiled demands; one whose structure is out of date is compiled anew."""

    def __init__(self, capacity: int = 256) -> None:
        self._capacity = capacity
        self._known: OrderedDict[Demand, tuple[tuple[str, int, int], Eligible]] = OrderedDict()

    def get(self, snapshot: Snapshot, demand: Demand) -> Eligible:
        basis = (snapshot.epoch, snapshot.structure_version, snapshot.config_version)
        known = self._known.get(demand)
        if known is not None and known[0] == basis:
            self._known.move_to_end(demand)
            return known[1]
        eligible = compile_demand(snapshot, demand)
        self._known[demand] = (basis, eligible)
        self._known.move_to_end(demand)
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)
        return eligible
