"""Event streams: everybody in this replica who follows the events, told by the one reader of the stream."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from scheduler.domain.ids import Tenant
from scheduler.engine.following import Follower
from scheduler.engine.mirror import Mirror
from scheduler.engine.subscription import Gap, Subscription, Wanted
from scheduler.errors import FleetError, Overrun
from scheduler.store.events import PAGE, START, Event, EventReader, order

RESUMES_MAX = 4
# Of one tenant; so no tenant can take the places of all the others.
CLIENTS_FOR_EACH_FREE = 3


class Fanout:
    """A listener of the stream. A client costs Redis nothing but, where it resumes, the pages that it missed."""

    def __init__(
        self,
        follower: Follower,
        pages: EventReader,
        mirror: Mirror,
        clients_max: int,
        now_ms: Callable[[], Awaitable[int]],
    ) -> None:
        self._follower = follower
        self._pages = pages
        self._mirror = mirror
        self._clients_max = clients_max
        self._now_ms = now_ms
        self._clients: dict[Wanted, set[Subscription]] = {}
        self._own = Counter[Tenant]()
        self._resumes = asyncio.Semaphore(RESUMES_MAX)
        self._closing = False
        self.count = 0

    @property
    def listens(self) -> bool:
        return self.count > 0

    async def open(self, wanted: Wanted) -> Subscription:
        """A subscription from now on, for the caller to close; Overrun where there are enough of them."""
        if self.count >= self._clients_max:
            raise Overrun(f"{self._clients_max} clients follow the events of this replica already")
        if self._own[wanted.tenant] >= CLIENTS_FOR_EACH_FREE * (self._clients_max - self.count):
            raise Overrun(
                f"{self._own[wanted.tenant]} clients of this tenant follow the events of this replica already"
            )
        self._opened(wanted.tenant, 1)
        try:
            await self._follower.placed()
        except BaseException:
            self._opened(wanted.tenant, -1)
            raise
        # nothing may come between these: what is behind this position comes by itself
        subscription = Subscription(wanted, self._follower.position)
        self._clients.setdefault(wanted, set()).add(subscription)
        if self._closing:
            subscription.end()
        return subscription

    def _opened(self, tenant: Tenant, count: int) -> None:
        self.count += count
        self._own[tenant] += count
        if not self._own[tenant]:
            # tenants come from outside
            del self._own[tenant]

    def close(self, subscription: Subscription) -> None:
        group = self._clients.get(subscription.wanted, set())
        if subscription in group:
            group.discard(subscription)
            self._opened(subscription.wanted.tenant, -1)
            if not group:
                del self._clients[subscription.wanted]

    async def told(self, subscription: Subscription, after: str | None) -> AsyncIterator[list[Event | Gap]]:
        """What the client is to hear, in order, without end; from behind `after` where that is given."""
        if after is not None:
            async for batch in self._resumed(subscription, after):
                yield batch
        while batch := await subscription.take():
            yield batch

    async def _resumed(self, subscription: Subscription, after: str) -> AsyncIterator[list[Event | Gap]]:
        """The pages between `after` and where this begins; the subscription goes on from there."""
        begins = self._follower.position
        subscription.move(begins)
        while not subscription.ended:
            behind = order(after) < order(begins)
            async with self._resumes:
                events = await self._pages.between(after, begins) if behind else []
                oldest, newest = await self._pages.span()
                await self._see(events)
            told: list[Event | Gap] = [e for e in events if subscription.wanted.takes(e, self._mirror.snapshot)]
            # asked after the page was read: what was trimmed by then may be missing from it
            trimmed = after != START and order(oldest) > order(after)
            lost = trimmed or (order(newest) < order(after) and await self._of_other_data(after, newest))
            if lost:
                told.insert(0, Gap())
            if told:
                yield told
            if not behind and not lost:
                # the client heard more from another replica than this one has read yet
                subscription.move(after)
            if len(events) < PAGE:
                return
            after = events[-1].position

    async def _of_other_data(self, after: str, newest: str) -> bool:
        """Whether a place behind the newest event is none of these data's.

        Any instant that has been is good: to compare it with the newest event would tell when others did something.
        """
        return newest == START or order(after)[0] > await self._now_ms()

    async def heard(self, events: Sequence[Event]) -> None:
        if self._clients:
            await self._see(events)
        snapshot = self._mirror.snapshot
        for wanted, group in self._clients.items():
            if taken := [event for event in events if wanted.takes(event, snapshot)]:
                for subscription in group:
                    subscription.offer(taken)

    async def missed(self) -> None:
        for group in self._clients.values():
            for subscription in group:
                subscription.gap()

    def release(self) -> None:
        """The replica stops: every stream ends, and its client resumes at another replica."""
        self._closing = True
        for group in self._clients.values():
            for subscription in group:
                subscription.end()

    async def _see(self, events: Sequence[Event]) -> None:
        """Where nodes or pools changed, bring the snapshot up to it before it judges who may see that."""
        if any("tenant" not in event.fields for event in events):
            with contextlib.suppress(FleetError):
                await self._mirror.refresh()
