"""One shard as a replica has it: a snapshot, claims on their way, and readers of jobs and events."""

import asyncio
import random

from scheduler.domain.demand import Demand
from scheduler.engine.batch import ClaimBatcher
from scheduler.engine.dispatch import Dispatcher
from scheduler.engine.fanout import Fanout
from scheduler.engine.following import Follower
from scheduler.engine.mirror import Mirror
from scheduler.engine.reading import JobReads
from scheduler.engine.reaping import reap_for_ever
from scheduler.engine.waking import Waker
from scheduler.errors import FleetError, LibraryMismatch, ServerUnavailable
from scheduler.placement.room import Room, room
from scheduler.settings import Settings
from scheduler.store.client import Client, connect_blocking
from scheduler.store.events import BLOCK_MS, EventReader
from scheduler.store.inspecting import Inspected
from scheduler.store.keys import audit_key, events_key, shard_key
from scheduler.store.library import Library
from scheduler.store.moves import Moves
from scheduler.store.views import Views

# Beyond this age a shard whose snapshot cannot be refreshed is left out.
AWAY_MS = 1_000


class Shard:
    """Start it, ask it, stop it; it holds no truth."""

    def __init__(self, settings: Settings, client: Client, tag: str, library: Library) -> None:
        self.tag = tag
        self.key = shard_key(settings.namespace, tag)
        self._settings = settings
        self._blocking = connect_blocking(settings.redis_url, block_ms=BLOCK_MS)
        self.functions = Moves(client, self.key, library)
        self.views = Views(client, self.key)
        self.inspected = Inspected(client, self.key)
        self.events = EventReader(client, events_key(self.key))
        self.audit = EventReader(client, audit_key(self.key))
        self.mirror = Mirror(self.functions, settings.refresh_ms)
        self._batcher = ClaimBatcher(self.functions, settings.deadline_ms)
        self.dispatcher = Dispatcher(
            self.mirror, self._batcher, candidates=settings.candidates, deadline_ms=settings.deadline_ms
        )
        self.reads = JobReads(self.views)
        self.follower = Follower(
            EventReader(self._blocking, events_key(self.key)), lambda: self.mirror.snapshot.epoch
        )
        self.waker = Waker(self.follower, self.reads, self.views)
        self.fanout = Fanout(self.follower, self.events, self.mirror, settings.event_clients, self.views.now_ms)
        self.follower.add(self.waker)
        self.follower.add(self.fanout)
        self.checked: FleetError | None = ServerUnavailable("the library has not been checked yet")
        self._rooms: dict[Demand, tuple[float, Room]] = {}
        self._rng = random.Random()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self.mirror.run()),
            asyncio.create_task(reap_for_ever(self.functions, self._settings.reap_ms)),
        ]

    async def stop(self) -> None:
        """End the background tasks; claims under way are answered first."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._batcher.close()
        await self.follower.close()
        await self.reads.close()
        await self.mirror.close()
        await self._blocking.aclose()

    def obstacle(self) -> str | None:
        """Why nothing can be placed in this shard now, or None."""
        if self.checked is not None:
            return str(self.checked)
        if not self.mirror.filled:
            return f"the snapshot is not filled yet{f': {self.mirror.failure}' if self.mirror.failure else ''}"
        if not self.fresh:
            return f"the snapshot is {self.mirror.age_ms} ms old: {self.mirror.failure}"
        return None

    @property
    def fresh(self) -> bool:
        """Whether what the snapshot says may pass for the present state."""
        return self.mirror.filled and self.mirror.age_ms <= max(5 * self._settings.refresh_ms, 2_000)

    @property
    def starting(self) -> bool:
        """Whether nothing is known of the shard yet, nor why not."""
        return not self.mirror.filled and self.mirror.failure is None

    @property
    def away(self) -> bool:
        """Whether a claim had better go to another shard, where it may."""
        if isinstance(self.checked, LibraryMismatch) or not self.mirror.filled:
            return True
        return self.mirror.failure is not None and self.mirror.age_ms > max(3 * self._settings.refresh_ms, AWAY_MS)

    def room(self, demand: Demand) -> Room:
        """Free slots for the demand, counted again each refresh; what this replica takes meanwhile is taken off."""
        now = asyncio.get_running_loop().time()
        known = self._rooms.get(demand)
        if known is None or now - known[0] > self._settings.refresh_ms / 1000:
            if len(self._rooms) >= 256:
                self._rooms.clear()
            known = self._rooms[demand] = (now, room(*self.dispatcher.eligible(demand), self._rng))
        return known[1]

    def took(self, demand: Demand, slots: int) -> None:
        """So many slots less until the next count; all of them after a refusal."""
        if known := self._rooms.get(demand):
            at, (rank, left) = known
            self._rooms[demand] = (at, Room(rank, max(left - slots, 0)))

    def release(self) -> None:
        """Answer the long polls and end the event streams now, because the replica is about to stop."""
        self.waker.release()
        self.fanout.release()
