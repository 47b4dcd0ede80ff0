"""Reads of jobs that are asked for in one turn of the loop, or while reads are under way, share a round trip."""

import asyncio

from scheduler.domain.ids import JobId
from scheduler.domain.views import JobView
from scheduler.errors import Overrun, ServerUnavailable
from scheduler.store.views import Elsewhere, Views

PAGE = 100
READS_MAX = 2
QUEUED_MAX = 40_000


class JobReads:
    """A bounded queue in front of Views.jobs. What is asked before a read begins is answered by that read."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._queue: dict[JobId, asyncio.Future[JobView | Elsewhere | None]] = {}
        self._reads: set[asyncio.Task[None]] = set()
        self._woken = False

    async def job(self, job: JobId) -> JobView | Elsewhere | None:
        """The job as it stands after this call, or None where it is unknown."""
        future = self._queue.get(job)
        if future is None:
            if len(self._queue) >= QUEUED_MAX:
                raise Overrun(f"more than {QUEUED_MAX} reads wait for Redis")
            loop = asyncio.get_running_loop()
            future = self._queue[job] = loop.create_future()
            if not self._woken:
                self._woken = True
                loop.call_soon(self._send)
        # somebody else may wait for the same read
        return await asyncio.shield(future)

    def _send(self) -> None:
        self._woken = False
        while self._queue and len(self._reads) < READS_MAX:
            jobs = list(self._queue)[:PAGE] if len(self._queue) > PAGE else list(self._queue)
            page = {job: self._queue.pop(job) for job in jobs}
            read = asyncio.create_task(self._read(page))
            self._reads.add(read)
            read.add_done_callback(self._returned)

    def _returned(self, read: "asyncio.Task[None]") -> None:
        self._reads.discard(read)
        self._send()

    async def _read(self, page: dict[JobId, "asyncio.Future[JobView | Elsewhere | None]"]) -> None:
        try:
            views = await self._again(list(page))
        except BaseException as error:  # noqa: BLE001 - every waiter must be told, whatever it was
            told = error if isinstance(error, Exception) else Overrun("the replica stops")
            for future in page.values():
                future.set_exception(told)
                # its waiter may have gone
                future.exception()
            return
        for future, view in zip(page.values(), views, strict=True):
            future.set_result(view)

    async def _again(self, jobs: list[JobId]) -> list[JobView | Elsewhere | None]:
        """After a restart of Redis the first use of each old connection fails, and a read may be repeated."""
        try:
            return await self._views.jobs(jobs)
        except ServerUnavailable:
            return await self._views.jobs(jobs)

    async def close(self) -> None:
        """Wait for the reads under way; each has its own deadline."""
        while self._reads:
            await asyncio.gather(*self._reads, return_exceptions=True)
