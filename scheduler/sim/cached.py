"""The schedulers beside ours: each picks one node at a time from what it knows, and tries another if that is full.

Their cache is better than ours: a refresh brings the true loads of all nodes, material changes or not. As where loads
come by reports alone, a replica does not count what it has placed itself; it does remember that a node was full.
"""

import random
from collections.abc import Callable, Iterator
from itertools import islice

from scheduler.sim.plan import SimPlan
from scheduler.sim.tries import Opener, Replica, Tries
from scheduler.sim.truth import Truth

# Tries until such a scheduler refuses, as a client's retries would be bounded.
TRIES = 3
SAMPLE = 20
# Draws for that sample; where few nodes are free it may find fewer.
_DRAWS = 400


class Cached:
    """One replica. Without `sees` it knows the nodes, but nothing of their loads."""

    def __init__(self, pick: "Pick", truth: Truth, rng: random.Random, *, most: int, sees: bool) -> None:
        self._pick = pick
        self._most = most
        self._sees = sees
        self.count = len(truth.slots)
        self.cursor = rng.randrange(self.count)
        self.loads: list[float] = []
        self._least: list[int] = []
        self._low = 0.0
        self.refresh(truth)

    def refresh(self, truth: Truth) -> None:
        if self._sees:
            self.loads = truth.load[:]
            self._least = []

    def tries(self, rng: random.Random) -> Tries:
        for node in islice(self._pick(self, rng), self._most):
            answer = yield [node]
            if answer.taken is not None:
                return
            if self._sees:
                self.loads[node] = 1.0

    def least(self, rng: random.Random) -> int:
        """One of the nodes of the lowest load that is known; those that turned out full are dropped on the way."""
        while True:
            if not self._least:
                self._low = min(self.loads)
                self._least = [node for node, load in enumerate(self.loads) if load == self._low]
            at = int(rng.random() * len(self._least))
            node = self._least[at]
            if self.loads[node] == self._low:
                return node
            self._least[at] = self._least[-1]
            self._least.pop()


Pick = Callable[[Cached, random.Random], Iterator[int]]


def at_random(replica: Cached, rng: random.Random) -> Iterator[int]:
    while True:
        yield rng.randrange(replica.count)


def in_turn(replica: Cached, rng: random.Random) -> Iterator[int]:  # noqa: ARG001 - all picks take these
    while True:
        replica.cursor = (replica.cursor + 1) % replica.count
        yield replica.cursor


def least_loaded(replica: Cached, rng: random.Random) -> Iterator[int]:
    while True:
        yield replica.least(rng)


def better_of_two(replica: Cached, rng: random.Random) -> Iterator[int]:
    while True:
        one, other = rng.randrange(replica.count), rng.randrange(replica.count)
        yield one if replica.loads[one] <= replica.loads[other] else other


def sampled(replica: Cached, rng: random.Random) -> Iterator[int]:
    """Up to 20 nodes that seem free, one after the other, the least loaded first."""
    found: dict[int, float] = {}
    for _ in range(_DRAWS):
        node = rng.randrange(replica.count)
        if replica.loads[node] < 1:
            found[node] = replica.loads[node]
            if len(found) == SAMPLE:
                break
    yield from sorted(found, key=found.__getitem__)


def opener(pick: Pick, *, most: int = TRIES, sees: bool = True) -> Opener:
    def opened(plan: SimPlan, truth: Truth, rng: random.Random) -> list[Replica]:
        return [Cached(pick, truth, rng, most=most, sees=sees) for _ in range(plan.replicas)]

    return opened


class Omniscient:
    """One replica that proposes nothing: the node is chosen by the true loads in the step that takes it."""

    def refresh(self, truth: Truth) -> None:
        """There is nothing to refresh."""

    def tries(self, rng: random.Random) -> Tries:  # noqa: ARG002 - all replicas take it
        yield []


def open_omniscient(plan: SimPlan, truth: Truth, rng: random.Random) -> list[Replica]:  # noqa: ARG001
    return [Omniscient()] * plan.replicas
