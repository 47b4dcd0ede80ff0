"""Long polls: one reader of the event stream wakes everyone who waits for a job in this replica."""

import asyncio
from collections import defaultdict

from scheduler.domain.ids import JobId
from scheduler.errors import FleetError, Overrun
from scheduler.store.events import PAGE, EventReader
from scheduler.store.views import Views

WAITERS_MAX = 20_000
_ENDS = {"job_succeeded", "job_failed", "job_cancelled", "job_expired"}


class Waker:
    """Reads events only while somebody waits; after a gap it asks Redis for the state of every job waited for."""

    def __init__(self, events: EventReader, views: Views) -> None:
        self._events = events
        self._views = views
        self._waiters: dict[JobId, set[asyncio.Future[None]]] = defaultdict(set)
        self._count = 0
        self._position: str | None = None
        self._reader: asyncio.Task[None] | None = None

    async def wait(self, job: JobId, wait_ms: int) -> None:
        """Return when the job has ended, or when wait_ms are over."""
        if self._count >= WAITERS_MAX:
            raise Overrun(f"more than {WAITERS_MAX} long polls in this replica")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[job].add(future)
        self._count += 1
        try:
            if self._reader is None or self._reader.done():
                self._position = None
                self._reader = asyncio.create_task(self._read())
            # the reader looks at every job waited for once it has a position; this one may have come later
            elif self._position is not None and await self._views.ended([job]):
                return
            await asyncio.wait([future], timeout=wait_ms / 1000)
        finally:
            self._count -= 1
            self._waiters[job].discard(future)
            if not self._waiters[job]:
                del self._waiters[job]

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    def _wake(self, job: JobId) -> None:
        for future in self._waiters.get(job, ()):
            if not future.done():
                future.set_result(None)

    async def _read(self) -> None:
        while self._waiters:
            try:
                await self._turn()
            except FleetError:
                self._position = None
                await asyncio.sleep(0.2)

    async def _turn(self) -> None:
        if self._position is None:
            self._position = await self._events.newest()
            jobs = list(self._waiters)
            for start in range(0, len(jobs), 500):
                for job in await self._views.ended(jobs[start : start + 500]):
                    self._wake(job)
        events = await self._events.after(self._position)
        for event in events:
            self._position = event.position
            if event.kind in _ENDS:
                self._wake(JobId(event.fields.get("job", "")))
        if len(events) >= PAGE:
            # far behind: what was trimmed in front of us was never seen, so every job is asked for again
            self._position = None
