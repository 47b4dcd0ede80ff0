"""Demands compiled against a snapshot's shapes: which nodes could ever take such a job, pool by pool."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from scheduler.domain.demand import Demand
from scheduler.domain.ids import PoolName
from scheduler.domain.node import Shape
from scheduler.domain.pool import Pool, Strategy, pool_order
from scheduler.placement.filters import Wanted, shape_obstacle
from scheduler.placement.joined import Joined
from scheduler.placement.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Tier:
    """The eligible nodes whose best pool this is; `ceiling` is the largest number of slots among them, or above it.

    `front` changes in place: the fullest nodes that draws of a `pack` pool have met. `d` None: the replica's own.
    """

    pool: PoolName
    rank: int
    positions: Joined
    ceiling: int
    strategy: Strategy = "spread"
    d: int | None = None
    front: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Eligible:
    """A compiled demand, by shapes: it costs the same for one node of a shape as for 100,000.

    `ranks` has the shapes that fit, each with the rank of its best pool. It holds for snapshots of the same `stamp`
    and `pools`; to later ones it follows by the shapes that moved.
    """

    wanted: Wanted
    ranks: dict[Shape, int]
    tiers: tuple[Tier, ...]
    stamp: object
    pools: Mapping[PoolName, Pool]


def wanted_by(snapshot: Snapshot, demand: Demand) -> Wanted:
    pools, tenant = snapshot.pools, demand.tenant
    order = pool_order(pools, tenant, demand.pool, fallback=demand.fallback, languages=demand.languages)
    return Wanted(demand, order, frozenset(name for name, pool in pools.items() if pool.serves(tenant)))


def compile_demand(snapshot: Snapshot, demand: Demand) -> Eligible:
    """Work for each distinct shape; never done per request."""
    wanted = wanted_by(snapshot, demand)
    ranks = _ranked(wanted, snapshot.members)
    tiers = tuple(_tier(snapshot, wanted, ranks, rank) for rank in sorted(set(ranks.values())))
    return Eligible(wanted, ranks, tiers, snapshot.stamp, snapshot.pools)


def followed(eligible: Eligible, snapshot: Snapshot) -> Eligible:
    """The same demand for a later snapshot: work for each shape that moved; where these are not known, for all."""
    shapes = snapshot.moved_since(eligible.stamp) if eligible.pools is snapshot.pools else None
    if shapes is None:
        return compile_demand(snapshot, eligible.wanted.demand)
    before, wanted = eligible.ranks, eligible.wanted
    touched = {before[shape] for shape in shapes if shape in before}
    come = _ranked(wanted, (shape for shape in shapes if shape in snapshot.members and shape not in before))
    ranks = before
    if come or touched:
        ranks = {shape: rank for shape, rank in before.items() if shape in snapshot.members} | come
    touched.update(come.values())
    known = {tier.rank: tier for tier in eligible.tiers}
    tiers = tuple(
        _tier(snapshot, wanted, ranks, rank) if rank in touched else known[rank]
        for rank in sorted(set(ranks.values()))
    )
    return Eligible(wanted, ranks, tiers, snapshot.stamp, snapshot.pools)


def _ranked(wanted: Wanted, shapes: Iterable[Shape]) -> dict[Shape, int]:
    """The shapes that fit, each with the rank of its best pool."""
    ranks: dict[Shape, int] = {}
    for shape in shapes:
        if shape_obstacle(wanted, shape) is None:
            ranks[shape] = next(rank for rank, pool in enumerate(wanted.order, 1) if pool in shape.pools)
    return ranks


def _tier(snapshot: Snapshot, wanted: Wanted, ranks: dict[Shape, int], rank: int) -> Tier:
    shapes = [shape for shape, own in ranks.items() if own == rank]
    name = wanted.order[rank - 1]
    pool, ceiling = snapshot.pools[name], max(snapshot.ceilings[shape] for shape in shapes)
    return Tier(name, rank, Joined(snapshot.members[shape] for shape in shapes), ceiling, pool.strategy, pool.d)


class Compiled:
    """The most recently used compiled demands; each follows the snapshot when it is asked for."""

    def __init__(self, capacity: int = 256) -> None:
        self._capacity = capacity
        self._known: OrderedDict[Demand, Eligible] = OrderedDict()

    def get(self, snapshot: Snapshot, demand: Demand) -> Eligible:
        known = self._known.get(demand)
        if known is None:
            known = self._known[demand] = compile_demand(snapshot, demand)
            if len(self._known) > self._capacity:
                self._known.popitem(last=False)
        elif known.stamp is not snapshot.stamp or known.pools is not snapshot.pools:
            known = self._known[demand] = followed(known, snapshot)
        self._known.move_to_end(demand)
        return known
