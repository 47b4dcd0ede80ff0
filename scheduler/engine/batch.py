"""Claims that arrive in one turn of the event loop, or while calls are under way, share a round trip."""

import asyncio
from collections import deque

from scheduler.domain.job import JobRequest
from scheduler.errors import Overrun, ServerUnavailable
from scheduler.store.codec import Answer, Shortlist
from scheduler.store.functions import CLAIMS_MAX, NODES_MAX, Functions

CALLS_MAX = 4
QUEUED_MAX = 2_048


class ClaimBatcher:
    """A bounded queue in front of job_claim. A caller that goes away takes nobody else's claim with it."""

    def __init__(self, functions: Functions, deadline_ms: int = 1_000) -> None:
        self._functions = functions
        self._deadline_ms = deadline_ms
        # all claims wait equally long, so the oldest is due first and one timer is enough for all
        self._due: deque[tuple[float, asyncio.Future[Answer]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._queue: deque[tuple[JobRequest, Shortlist, asyncio.Future[Answer]]] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._woken = False

    async def claim(self, request: JobRequest, shortlist: Shortlist) -> Answer:
        """The answer of Redis for this claim; raises Overrun at once when the queue is full.

        ServerUnavailable past deadline_ms: the claim may be made all the same, and its id finds it.
        """
        while self._queue and self._queue[0][2].done():
            self._queue.popleft()
        if len(self._queue) >= QUEUED_MAX:
            raise Overrun(f"more than {QUEUED_MAX} claims wait for Redis")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._queue.append((request, shortlist, future))
        self._watch(loop, future)
        if not self._woken:
            self._woken = True
            loop.call_soon(self._send)
        return await future

    def _watch(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Answer]) -> None:
        due = self._due
        while due and due[0][1].done():
            due.popleft()
        due.append((loop.time() + self._deadline_ms / 1000, future))
        if self._timer is None:
            self._timer = loop.call_at(due[0][0], self._end_due, loop)

    def _end_due(self, loop: asyncio.AbstractEventLoop) -> None:
        due = self._due
        while due and (due[0][1].done() or due[0][0] <= loop.time()):
            _, future = due.popleft()
            if not future.done():
                future.set_exception(ServerUnavailable(f"no decision within {self._deadline_ms} ms"))
        self._timer = loop.call_at(due[0][0], self._end_due, loop) if due else None

    def _send(self) -> None:
        self._woken = False
        while self._queue and len(self._calls) < CALLS_MAX:
            batch = self._take()
            if batch:
                call = asyncio.create_task(self._call(batch))
                self._calls.add(call)
                call.add_done_callback(self._returned)

    def _take(self) -> list[tuple[JobRequest, Shortlist, asyncio.Future[Answer]]]:
        """The oldest claims that fit into one call; those whose callers have gone or were told are dropped."""
        batch: list[tuple[JobRequest, Shortlist, asyncio.Future[Answer]]] = []
        shown = 0
        while self._queue and len(batch) < CLAIMS_MAX:
            shown += len(self._queue[0][1].nodes)
            if batch and shown > NODES_MAX:
                break
            claim = self._queue.popleft()
            if claim[2].done():
                shown -= len(claim[1].nodes)
            else:
                batch.append(claim)
        return batch

    def _returned(self, call: "asyncio.Task[None]") -> None:
        self._calls.discard(call)
        if self._queue:
            self._send()

    async def _call(self, batch: list[tuple[JobRequest, Shortlist, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._functions.job_claim([(request, shortlist) for request, shortlist, _ in batch])
        except BaseException as error:  # noqa: BLE001 - every waiter must be told, whatever it was
            for _, _, future in batch:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else Overrun("the replica stops"))
            return
        for (_, _, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    async def close(self) -> None:
        """Wait for the calls under way; each has its own deadline."""
        while self._calls:
            await asyncio.gather(*self._calls, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
