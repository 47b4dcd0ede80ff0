"""Long polls: whoever waits for a job in this replica is woken by its end in the event stream."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from scheduler.domain.ids import JobId, Tenant
from scheduler.domain.job import JobState
from scheduler.domain.views import JobView
from scheduler.engine.following import Follower
from scheduler.engine.reading import JobReads
from scheduler.errors import Overrun
from scheduler.store.events import Event
from scheduler.store.views import Elsewhere, Views

WAITERS_MAX = 20_000
PAGE = 500
ENDS = frozenset(f"job_{state}" for state in JobState if state.ended) | {"job_moved"}


class Waker:
    """A listener of the stream. No waiter asks Redis while it waits; after a gap one read asks for all of them."""

    def __init__(self, follower: Follower, reads: JobReads, views: Views) -> None:
        self._follower = follower
        self._reads = reads
        self._views = views
        self._waiters: dict[JobId, set[asyncio.Future[None]]] = defaultdict(set)
        self._closing = False
        self.count = 0

    @property
    def listens(self) -> bool:
        return self.count > 0

    async def wait(self, job: JobId, tenant: Tenant, wait_ms: int) -> JobView | Elsewhere | None:
        """The tenant's job once it has ended, or as it is after wait_ms; at once where there is none to wait for, or
        where it is in another shard.
        """
        if self.count >= WAITERS_MAX:
            raise Overrun(f"more than {WAITERS_MAX} long polls in this replica")
        loop = asyncio.get_running_loop()
        end = loop.time() + wait_ms / 1000
        while True:
            # First the place, then the look: an end after the look finds the place, and an end before it is seen.
            # While the reader has no position yet, it looks at every job waited for once it has one.
            with self._place(job) as woken:
                self._follower.begin()
                view = await self._reads.job(job)
                if not isinstance(view, JobView) or view.tenant != tenant or view.state.ended or self._closing:
                    return view
                await asyncio.wait([woken], timeout=max(end - loop.time(), 0))
                if not woken.done():
                    return await self._reads.job(job)

    @contextmanager
    def _place(self, job: JobId) -> "Iterator[asyncio.Future[None]]":
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[job].add(future)
        self.count += 1
        try:
            yield future
        finally:
            self.count -= 1
            self._waiters[job].discard(future)
            if not self._waiters[job]:
                del self._waiters[job]

    async def heard(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.kind in ENDS:
                self._wake(JobId(event.fields.get("job", "")))

    async def missed(self) -> None:
        jobs = list(self._waiters)
        for start in range(0, len(jobs), PAGE):
            for job in await self._views.ended(jobs[start : start + PAGE]):
                self._wake(job)

    def release(self) -> None:
        """The replica stops: every long poll is answered now, with its job as it is."""
        self._closing = True
        for job in self._waiters:
            self._wake(job)

    def _wake(self, job: JobId) -> None:
        for future in self._waiters.get(job, ()):
            if not future.done():
                future.set_result(None)
