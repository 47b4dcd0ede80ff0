"""A snapshot in numbers: nodes by what keeps them from taking jobs, and slots by pool."""

from collections import Counter
from dataclasses import dataclass, field

from scheduler.domain.ids import PoolName
from scheduler.placement.snapshot import Snapshot

# Each node is counted under the first of these that holds, as Redis judges them; ready: it can take a job.
STATES = ("lost", "cordoned", "draining", "quarantined", "overloaded", "full", "ready")


@dataclass(slots=True)
class PoolCount:
    """Nodes of a pool, lost ones included, and their slots; free are those that could be claimed now."""

    members: int = 0
    free: int = 0
    used: int = 0

    def add(self, other: "PoolCount") -> None:
        self.members += other.members
        self.free += other.free
        self.used += other.used


@dataclass(frozen=True, slots=True)
class Census:
    """`pools` has every configured pool, also one without nodes. A node is in each of its pools."""

    states: Counter[str] = field(default_factory=Counter)
    pools: dict[PoolName, PoolCount] = field(default_factory=dict)

    def add(self, other: "Census") -> None:
        """Take in that of another shard."""
        self.states.update(other.states)
        for name, count in other.pools.items():
            self.pools.setdefault(name, PoolCount()).add(count)


def census(snapshot: Snapshot) -> Census:
    """Count every node: 0.3 µs for each, so for whoever watches, not for requests."""
    states: Counter[str] = Counter()
    pools = {name: PoolCount() for name in snapshot.pools}
    free = snapshot.free
    for shape, positions in snapshot.members.items():
        count = PoolCount(len(positions))
        for position in positions:
            node = snapshot.node(position)
            left = 0
            if node.state != "ready":
                state: str = node.state
            elif node.quarantined:
                state = "quarantined"
            elif node.over:
                state = "overloaded"
            else:
                # what the last claims saw is newer than what the node was mirrored with
                left = free[position]
                state = "ready" if left else "full"
            states[state] += 1
            count.free += left
            count.used += node.slots - left if left else max(node.used, node.slots) if state == "full" else node.used
        for name in shape.pools:
            if name in pools:
                pools[name].add(count)
    return Census(states, pools)
