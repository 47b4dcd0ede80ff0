"""How many slots seem to be free for a demand in one snapshot; which shard to ask is drawn by it."""

from random import Random
from typing import NamedTuple

from scheduler.placement.eligible import Eligible
from scheduler.placement.snapshot import Snapshot

# Up to here each node is counted; of more nodes so many are drawn, and the sum is an estimate within some percent.
COUNTED_MAX, DRAWN = 256, 128


class Room(NamedTuple):
    """`slots` free in the pool of that rank, the best that has any; rank 0: nothing offers it, slots 0: none free."""

    rank: int
    slots: int


def room(snapshot: Snapshot, eligible: Eligible, rng: Random) -> Room:
    for tier in eligible.tiers:
        positions, free = tier.positions, snapshot.free
        count = len(positions)
        if count <= COUNTED_MAX:
            slots = sum(free[position] for position in positions)
        else:
            drawn = sum(free[positions[int(rng.random() * count)]] for _ in range(DRAWN))
            slots = -(-drawn * count // DRAWN)
        if slots:
            return Room(tier.rank, slots)
    return Room(eligible.tiers[0].rank if eligible.tiers else 0, 0)
