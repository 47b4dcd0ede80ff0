"""Demands compiled against a snapshot's structure: which nodes could ever take such a job, pool by pool."""

from collections import OrderedDict
from dataclasses import dataclass

from scheduler.domain.demand import Demand
from scheduler.domain.ids import PoolName
from scheduler.domain.pool import pool_order
from scheduler.placement.filters import Wanted, shape_obstacle
from scheduler.placement.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Tier:
    """The eligible nodes whose best pool this is; `ceiling` is the largest number of slots among them."""

    pool: PoolName
    rank: int
    positions: list[int]
    ceiling: int


@dataclass(frozen=True, slots=True)
class Eligible:
    """A compiled demand; holds while the snapshot's structure and pool configuration stay as they are."""

    wanted: Wanted
    tiers: tuple[Tier, ...]


def compile_demand(snapshot: Snapshot, demand: Demand) -> Eligible:
    """Work for each distinct shape, plus a copy of the matching positions; never done per request."""
    order = pool_order(snapshot.pools, demand.tenant, demand.pool, fallback=demand.fallback)
    wanted = Wanted(demand, order)
    by_rank: dict[int, list[int]] = {}
    for shape, positions in snapshot.members.items():
        if shape_obstacle(wanted, shape) is None:
            rank = next(rank for rank, pool in enumerate(order, 1) if pool in shape.pools)
            by_rank.setdefault(rank, []).extend(positions)
    tiers = tuple(
        Tier(order[rank - 1], rank, positions, max(snapshot.node(p).slots for p in positions))
        for rank, positions in sorted(by_rank.items())
    )
    return Eligible(wanted, tiers)


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
