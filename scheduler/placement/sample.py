"""The random draw of candidates in proportion to their free slots; its cost does not grow with the fleet."""

from bisect import bisect_right
from collections.abc import Sequence
from random import Random

from scheduler.domain.node import Node
from scheduler.placement.eligible import Tier
from scheduler.placement.joined import Joined

_SMALL = 16
_TRIES = 48
_SCAN = 64
_FRONT = 16


def sample(tier: Tier, free: Sequence[int], d: int, skip: frozenset[int], rng: Random) -> list[int]:
    """Up to d distinct positions with a free slot, drawn with probability proportional to free slots.

    Rejection sampling: a uniform draw is kept with probability free / ceiling (Knuth, TAOCP 2, 3.4.1). When few slots
    are free the draw gives up and takes the next free nodes from a random start on; it may return fewer than d.
    """
    positions = tier.positions
    count, drawn = len(positions), list[int]()
    if count <= _SMALL:
        few = [p for p in positions if free[p] > 0 and p not in skip]
        if len(few) <= d:
            rng.shuffle(few)
            return few
        positions, count = Joined([tuple(few)]), len(few)
    # what positions[i] does, without a call
    parts, ends, ceiling, random = positions.parts, positions.ends, tier.ceiling, rng.random
    for _ in range(_TRIES):
        index = int(random() * count)
        part = bisect_right(ends, index)
        position = parts[part][index - ends[part]]
        if random() * ceiling < free[position] and position not in drawn and position not in skip:
            drawn.append(position)
            if len(drawn) == d:
                return drawn
    start = int(random() * count)
    for step in range(min(_SCAN, count)):
        position = positions[(start + step) % count]
        if free[position] > 0 and position not in drawn and position not in skip:
            drawn.append(position)
            if len(drawn) == d:
                break
    return drawn


def fullest(
    tier: Tier, nodes: Sequence[Node | None], free: Sequence[int], d: int, skip: frozenset[int], rng: Random
) -> list[int]:
    """Up to d positions with a free slot, the fullest first, of the front and of a stretch from a random start.

    The front keeps the fullest of all that was met, so that it holds the pool's fullest after some draws; a pool of
    any size costs the same.
    """
    positions, count = tier.positions, len(tier.positions)
    start = int(rng.random() * count)
    met = {*tier.front, *(positions[(start + step) % count] for step in range(min(_FRONT, count)))}
    shares = {p: free[p] / node.slots for p in met if free[p] > 0 and (node := nodes[p]) is not None}
    tier.front[:] = sorted(shares, key=shares.__getitem__)[:_FRONT]
    return [p for p in tier.front if p not in skip][:d]


def stand_ins(tier: Tier, d: int, skip: frozenset[int], rng: Random) -> list[int]:
    """Up to d positions without regard to load: where nothing seems free, Redis compares them at the truth."""
    count = len(tier.positions)
    picked = (tier.positions[index] for index in rng.sample(range(count), min(d, count)))
    return [p for p in picked if p not in skip]
