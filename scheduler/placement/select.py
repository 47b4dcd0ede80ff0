"""The pipeline from a demand to the shortlist that is sent to Redis: compile, draw, pool by pool."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from scheduler.domain.ids import NodeId
from scheduler.placement.eligible import Eligible
from scheduler.placement.sample import fullest, sample, stand_ins
from scheduler.placement.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Candidates:
    """Positions in the snapshot, best pool first, and the rank of the pool that each was drawn from."""

    positions: list[int]
    ranks: list[int]


def excluded_positions(snapshot: Snapshot, exclude: Sequence[NodeId] | frozenset[NodeId]) -> frozenset[int]:
    known = (snapshot.positions.get(node) for node in exclude)
    return frozenset(position for position in known if position is not None)


def select(snapshot: Snapshot, eligible: Eligible, d: int, exclude: frozenset[NodeId], rng: Random) -> Candidates:
    """Candidates from the first pool that seems to have a free slot; where none has, d nodes of the first pool."""
    skip = excluded_positions(snapshot, exclude) if exclude else frozenset()
    for tier in eligible.tiers:
        most = tier.d or d
        drawn = fullest(tier, snapshot.nodes, snapshot.free, most, skip, rng) if tier.strategy == "pack" else []
        if drawn := drawn or sample(tier, snapshot.free, most, skip, rng):
            return Candidates(drawn, [tier.rank] * len(drawn))
    if eligible.tiers:
        tier = eligible.tiers[0]
        drawn = stand_ins(tier, tier.d or d, skip, rng)
        return Candidates(drawn, [tier.rank] * len(drawn))
    return Candidates([], [])
