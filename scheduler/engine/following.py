"""The one reader of the event stream in this replica; long polls and event streams both listen to it."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from scheduler.errors import FleetError, ServerUnavailable
from scheduler.store.events import PAGE, Event, EventReader, order

log = logging.getLogger("fleet.engine")
RETRY_S = 0.2
READY_S = 2.0


class Listener(Protocol):
    """Somebody who is told of every event, in order, while there is a reason to read."""

    @property
    def listens(self) -> bool:
        """Whether anybody stands behind it; the reader stops when nobody does."""
        ...

    async def heard(self, events: Sequence[Event]) -> None: ...

    async def missed(self) -> None:
        """Events may have passed unseen: at the beginning, after a trim or a loss of data in front of the reader."""
        ...


class Follower:
    """Reads only while somebody listens. Whoever listens when `begin` is called misses nothing from then on.

    A position is kept over failures of Redis, so that a short one costs nobody anything. `epoch` names the data:
    where it changes they were replaced, and what happened meanwhile is not in the stream.
    """

    def __init__(self, events: EventReader, epoch: Callable[[], str]) -> None:
        self._events = events
        self._epoch = epoch
        self._seen_epoch = ""
        self._listeners: tuple[Listener, ...] = ()
        self._task: asyncio.Task[None] | None = None
        self._placed = asyncio.Event()
        self._doubtful = False
        self.position = ""

    def add(self, listener: Listener) -> None:
        self._listeners = (*self._listeners, listener)

    def begin(self) -> None:
        """Read from now on, where nobody does; every listener then begins with a `missed`."""
        if self._task is None or self._task.done():
            self._placed.clear()
            self._doubtful = False
            self._task = asyncio.create_task(self._read())

    async def placed(self) -> None:
        """Return once there is a position; ServerUnavailable where Redis does not say."""
        self.begin()
        try:
            await asyncio.wait_for(self._placed.wait(), READY_S)
        except TimeoutError as error:
            raise ServerUnavailable("the event stream is not read") from error

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        while any(listener.listens for listener in self._listeners):
            try:
                await self._turn()
            except Exception as error:
                # whatever it was: those who listen have nobody else
                if not isinstance(error, FleetError):
                    log.exception("events_unread")
                self._doubtful = True
                await asyncio.sleep(RETRY_S)

    async def _turn(self) -> None:
        if not self._placed.is_set():
            await self._place()
        elif self._seen_epoch != self._epoch():
            self._doubtful = True
        before, doubtful = self.position, self._doubtful
        events = await self._events.after(before, 1 if doubtful else 1_000)
        if doubtful and not await self._continuous(before):
            return
        # behind a full page there may be more than the stream keeps
        self._doubtful = len(events) == PAGE
        if events:
            # who comes while listeners are told may hear some of these twice, and must never miss one
            self.position = events[-1].position
            for listener in self._listeners:
                await listener.heard(events)

    async def _place(self) -> None:
        self._seen_epoch = self._epoch()
        _, self.position = await self._events.span()
        for listener in self._listeners:
            await listener.missed()
        self._placed.set()

    async def _continuous(self, before: str) -> bool:
        """Whether what was read behind this position is all there was; asked after the read, for trims go on.

        If not, the listeners know, and reading goes on from what is there now.
        """
        epoch = self._epoch()
        oldest, newest = await self._events.span()
        if order(newest) < order(before) or (self._seen_epoch and epoch != self._seen_epoch):
            lost, onward = True, newest
        else:
            lost, onward = order(oldest) > order(before), before
        if not lost:
            self._seen_epoch = epoch
            return True
        for listener in self._listeners:
            await listener.missed()
        # a failure above leaves the doubt, and the next turn asks again
        self.position, self._seen_epoch = onward, epoch
        self._doubtful = False
        return False
