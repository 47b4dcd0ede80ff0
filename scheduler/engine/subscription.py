"""One client of the event stream: what it wants, what it may see, and a bounded queue that never holds others up."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.domain.ids import JobId, NodeId, Tenant
from scheduler.placement.snapshot import Snapshot
from scheduler.store.events import Event, order

QUEUE_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A client's tenant and filters; clients that want the same are judged together."""

    tenant: Tenant
    kinds: frozenset[str] = frozenset()
    job: JobId | None = None
    node: NodeId | None = None

    def takes(self, event: Event, snapshot: Snapshot) -> bool:
        if self.kinds and event.kind not in self.kinds:
            return False
        if self.job is not None and event.fields.get("job") != self.job:
            return False
        if self.node is not None and event.fields.get("node") != self.node:
            return False
        return sees(self.tenant, event, snapshot)


def sees(tenant: Tenant, event: Event, snapshot: Snapshot) -> bool:
    """A tenant sees what happens to its own jobs, and to nodes that are in a pool of its own."""
    owner = event.fields.get("tenant")
    if owner is not None:
        return owner == tenant
    if "job" in event.fields:
        return False
    position = snapshot.positions.get(NodeId(event.fields.get("node", "")))
    if position is None:
        return False
    pools = (snapshot.pools.get(name) for name in snapshot.node(position).shape.pools)
    return any(pool is not None and pool.serves(tenant) for pool in pools)


@dataclass(frozen=True, slots=True)
class Gap:
    """Events are missing here: so many that the client was too slow for, or an unknown number."""

    missed: int | None = None


class Subscription:
    """Filled by the reader without waiting, emptied by its client. A full queue loses the newest, and says so.

    After a loss it takes nothing until half of the queue is free, so that a slow client sees few gaps with long runs
    between them. Events up to `cursor` are known to the client already.
    """

    def __init__(self, wanted: Wanted, cursor: str, queue_max: int = QUEUE_MAX) -> None:
        self.wanted = wanted
        self.begins = cursor
        self._cursor = order(cursor)
        self._queue: deque[Event | Gap] = deque()
        self._queue_max = queue_max
        self._lost = 0
        self._some = asyncio.Event()
        self.ended = False

    def move(self, cursor: str) -> None:
        """The client has been told of everything up to here."""
        self._cursor = order(cursor)

    def offer(self, events: Sequence[Event]) -> None:
        for event in events:
            if len(self._queue) >= (self._queue_max // 2 if self._lost else self._queue_max):
                self._lost += 1
            else:
                self._say_lost()
                self._queue.append(event)
        self._some.set()

    def gap(self) -> None:
        """What happened meanwhile is not known; one mark stands for all that nothing comes between."""
        if not self._queue or not isinstance(self._queue[-1], Gap):
            self._queue.append(Gap())
        self._some.set()

    def end(self) -> None:
        self.ended = True
        self._some.set()

    async def take(self) -> list[Event | Gap]:
        """All that has come since, once something has; empty when the subscription has ended."""
        while not self.ended:
            await self._some.wait()
            self._some.clear()
            taken = [x for x in self._queue if isinstance(x, Gap) or order(x.position) > self._cursor]
            self._queue.clear()
            if self._lost:
                taken.append(Gap(self._lost))
                self._lost = 0
            if taken:
                return taken
        return []

    def _say_lost(self) -> None:
        if self._lost:
            self._queue.append(Gap(self._lost))
            self._lost = 0
