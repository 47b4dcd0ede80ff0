"""The true state of a simulated fleet, as Redis would hold it: used slots, the free nodes, and what changed when."""

import heapq
import random
from collections import OrderedDict
from collections.abc import Iterator

# A heartbeat reports a free share that moved by a tenth; the rest is rounding (lua/node_heartbeat.lua).
_MOVED = 0.0999


class Truth:
    """Every change goes through `take` and `give`. Nodes are numbers from 0."""

    def __init__(self, slots: list[int], rng: random.Random) -> None:
        self.slots = slots
        self.used = [0] * len(slots)
        self.load = [0.0] * len(slots)
        self.total = sum(slots)
        self.busy = 0
        self.version = 0
        self._rng = rng
        self._changed: OrderedDict[int, int] = OrderedDict()
        self._told = [0.0] * len(slots)
        # the set of nodes with a free slot: a list to draw from, and where in it each of them stands
        self._free = list(range(len(slots)))
        self._at = list(range(len(slots)))
        self._emptiest: list[tuple[float, float, int]] | None = None

    @property
    def has_free(self) -> bool:
        return bool(self._free)

    def take(self, node: int) -> None:
        self.used[node] += 1
        self.busy += 1
        if self.used[node] == self.slots[node]:
            last, at = self._free.pop(), self._at[node]
            if last != node:
                self._free[at], self._at[last] = last, at
            self._note(node)
        self._loaded(node)

    def give(self, node: int) -> None:
        self.used[node] -= 1
        self.busy -= 1
        if self.used[node] == self.slots[node] - 1:
            self._at[node] = len(self._free)
            self._free.append(node)
            self._note(node)
        self._loaded(node)

    def heartbeat(self, node: int) -> None:
        """Mirrors learn of a free share that moved by a tenth since they were last told."""
        if abs(self.load[node] - self._told[node]) >= _MOVED:
            self._told[node] = self.load[node]
            self._note(node)

    def changed_since(self, version: int) -> Iterator[int]:
        """The nodes that changed materially after this version, the latest first."""
        for node, changed in reversed(self._changed.items()):
            if changed <= version:
                return
            yield node

    def look(self) -> int | None:
        """The least loaded of up to four random free nodes, as lua/shared/looking.lua has it; None: all are full."""
        met = self._free if len(self._free) <= 4 else self._rng.sample(self._free, 4)
        return min(met, key=self.load.__getitem__, default=None)

    def emptiest(self) -> int | None:
        """The least loaded node of all, ties at random; what no scheduler can know at no cost."""
        heap = self._emptiest
        if heap is None or len(heap) > 8 * len(self.slots) + 64:
            heap = [(load, self._rng.random(), node) for node, load in enumerate(self.load)]
            heapq.heapify(heap)
            self._emptiest = heap
        while heap[0][0] != self.load[heap[0][2]]:
            heapq.heappop(heap)
        return heap[0][2] if heap[0][0] < 1 else None

    def _loaded(self, node: int) -> None:
        self.load[node] = self.used[node] / self.slots[node]
        if self._emptiest is not None:
            # the entry of its former load is passed over when it comes up
            heapq.heappush(self._emptiest, (self.load[node], self._rng.random(), node))

    def _note(self, node: int) -> None:
        self.version += 1
        self._changed[node] = self.version
        self._changed.move_to_end(node)
