"""The jobs that a node has in hand: started, run by the handler, finished under their fence."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from scheduler.domain.ids import Fence, JobId
from scheduler.domain.job import Outcome
from scheduler.errors import BadInput, FleetError
from scheduler.store.functions import Functions, Running

RESULT_MAX_BYTES = 262_144
log = logging.getLogger("fleet.agent")


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt, as the handler sees it. payload is JSON text, '' where there is none."""

    id: JobId
    fence: Fence
    payload: str
    remaining_ms: int


Handler = Callable[[Job], Awaitable[str | None]]
T = TypeVar("T")


class Hands:
    """Runs attempts. A cancelled one is confirmed to Redis, for until then its slot counts as taken."""

    def __init__(self, functions: Functions, handler: Handler) -> None:
        self._functions = functions
        self._handler = handler
        self._tasks: dict[tuple[JobId, Fence], asyncio.Task[None]] = {}
        self._confirming: set[asyncio.Task[None]] = set()
        self._void: set[tuple[JobId, Fence]] = set()
        self.leaving = False

    def __len__(self) -> int:
        return len(self._tasks)

    def listed(self) -> list[tuple[JobId, Fence]]:
        return list(self._tasks)

    def take(self, job: JobId, fence: Fence) -> None:
        """Start an attempt, once: a delivery that is read twice is one attempt."""
        if (job, fence) not in self._tasks:
            task = asyncio.create_task(self._attempt(job, fence))
            self._tasks[job, fence] = task
            task.add_done_callback(lambda _: self._tasks.pop((job, fence), None))

    def cancel(self, job: JobId, fence: Fence) -> None:
        """Stop an attempt that Redis has ended; also one that is not known here is confirmed."""
        task = self._tasks.get((job, fence))
        if task is not None:
            task.cancel()
            return
        confirming = asyncio.create_task(self._finish(job, fence, "failed", ""))
        self._confirming.add(confirming)
        confirming.add_done_callback(self._confirming.discard)

    def abandon(self) -> None:
        """Another incarnation: these fences mean nothing any more, so nothing is reported."""
        for key, task in self._tasks.items():
            self._void.add(key)
            task.cancel()

    async def settle(self, deadline_s: float) -> None:
        """Wait for what runs; what is left at the deadline is cancelled and handed back."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=deadline_s)
        self.leaving = True
        left = list(self._tasks.values())
        for task in left:
            task.cancel()
        await asyncio.gather(*left, *self._confirming, return_exceptions=True)

    async def _attempt(self, job: JobId, fence: Fence) -> None:
        outcome: Outcome = "released"
        result = ""
        try:
            started = await self._insist(lambda: self._functions.job_start(job, fence))
            if not isinstance(started, Running):
                return
            outcome, result = await self._handled(Job(job, fence, started.payload, started.remaining_ms))
        except asyncio.CancelledError:
            outcome, result = ("released", "") if self.leaving else ("failed", "cancelled")
            if (job, fence) in self._void:
                self._void.discard((job, fence))
                return
        await self._finish(job, fence, outcome, result)

    async def _handled(self, job: Job) -> tuple[Outcome, str]:
        try:
            async with asyncio.timeout(job.remaining_ms / 1000):
                result = await self._handler(job) or ""
        except TimeoutError:
            return "failed", f"the handler did not end within {job.remaining_ms} ms"
        except Exception as error:
            log.warning("job_failed", exc_info=error, extra={"job": job.id})
            return "failed", f"{type(error).__name__}: {error}"[:2_000]
        if len(result.encode()) > RESULT_MAX_BYTES:
            return "failed", f"the result is larger than {RESULT_MAX_BYTES} bytes"
        return "succeeded", result

    async def _finish(self, job: JobId, fence: Fence, outcome: Outcome, result: str) -> None:
        with contextlib.suppress(FleetError):
            await self._insist(lambda: self._functions.job_finish(job, fence, outcome, result))

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a fenced call, which is safe, until Redis takes it; gives up only when the agent leaves."""
        pause = 0.05
        while True:
            try:
                return await call()
            except BadInput:
                raise
            except FleetError:
                if self.leaving:
                    raise
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)
