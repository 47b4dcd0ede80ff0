"""The jobs that a node has in hand: started, run by the handler, finished under their fence."""

import asyncio
import logging
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Literal

from scheduler import logs, tracing
from scheduler.agent.job import Handler, Job
from scheduler.agent.retrying import insist
from scheduler.domain.ids import Fence, JobId
from scheduler.domain.job import Outcome
from scheduler.errors import BadInput
from scheduler.logs import Line
from scheduler.store.functions import Functions, Running

RESULT_MAX_BYTES = 262_144
REASON_MAX = 2_000
LISTED_MAX = 1_000
# Attempts beyond the slots: those of an incarnation that is over, whose handlers are slow to stop.
SPARE = 100
# How long a cancelled handler may take to stop, and a last report to be delivered, when the node leaves.
GRACE_S = 5.0
log = logging.getLogger("fleet.agent")


Key = tuple[JobId, Fence]


@dataclass(slots=True, eq=False)
class _Attempt:
    """One attempt in hand. `stopped` is why it was cancelled; a void one is not reported: its fence means nothing."""

    task: "asyncio.Task[tuple[Outcome, str] | None]"
    started: bool = False
    stopped: Literal["failed", "released", "void"] | None = None


class Hands:
    """Runs attempts, at most `slots` at once, and reports each end until Redis has taken it.

    Reports are tasks of their own: a cancel stops the handler, never the report, for it is the report that frees
    the slot.
    """

    def __init__(self, functions: Functions, handler: Handler, slots: int, node: str = "") -> None:
        self._functions = functions
        self._node = node
        self._handler = handler
        self._in_hand_max = slots + SPARE
        self._free = asyncio.Semaphore(slots)
        self._attempts: dict[Key, _Attempt] = {}
        self._reports: dict[Key, asyncio.Task[None]] = {}
        self._closed = False
        self._shown = 0

    def __len__(self) -> int:
        return len(self._attempts)

    def listed(self) -> str:
        """What is in hand as "<job> <fence> …", at most 1,000 of them; a longer list is shown in turns."""
        keys = list(self._attempts)
        if len(keys) > LISTED_MAX:
            self._shown = (self._shown + LISTED_MAX) % len(keys)
            keys = (keys[self._shown :] + keys[: self._shown])[:LISTED_MAX]
        return " ".join(f"{job} {fence}" for job, fence in keys)

    def take(self, job: JobId, fence: Fence) -> None:
        """Begin an attempt, once: a delivery that is read twice is one attempt. While closed it is handed back."""
        key = (job, fence)
        if key in self._attempts or key in self._reports:
            return
        if self._closed or len(self._attempts) >= self._in_hand_max:
            self._report(key, "released")
            return
        attempt = _Attempt(asyncio.create_task(self._work(key)))
        self._attempts[key] = attempt
        attempt.task.add_done_callback(partial(self._worked, key, attempt))

    def cancel(self, job: JobId, fence: Fence) -> None:
        """Stop an attempt that Redis has ended; one that is not known here is confirmed too, to free its slot."""
        key = (job, fence)
        if key in self._attempts:
            self._stop([key], "failed")
        else:
            self._report(key, "failed")

    def abandon(self) -> None:
        """This incarnation is over: stop everything; what is void is not reported."""
        self._stop(list(self._attempts), "void")

    def close(self) -> None:
        """Take nothing more; hand back what has not begun."""
        self._closed = True
        self._stop([key for key, attempt in self._attempts.items() if not attempt.started], "released")

    def open(self) -> None:
        self._closed = False

    def hand_back(self) -> None:
        """Stop and hand back what still runs."""
        self._stop(list(self._attempts), "released")

    async def settle(self, deadline_s: float) -> None:
        """Close and wait for what runs; at the deadline it is handed back. Ends at most GRACE_S later."""
        self.close()
        await _wait((attempt.task for attempt in self._attempts.values()), deadline_s)
        self.hand_back()
        await _wait((attempt.task for attempt in self._attempts.values()), GRACE_S)
        for key, attempt in self._attempts.items():
            log.warning(Line("handler_stuck", job_id=key[0], fence=key[1], why="it does not obey its cancellation"))
            if attempt.stopped != "void":
                self._report(key, "released")

    async def deliver(self) -> None:
        """Wait for the reports under way and those that come meanwhile; after GRACE_S give up the rest."""
        end = time.monotonic() + GRACE_S
        while self._reports and (left_s := end - time.monotonic()) > 0:
            await _wait(self._reports.values(), left_s)
        reports = list(self._reports.values())
        for report in reports:
            report.cancel()
        await asyncio.gather(*reports, return_exceptions=True)

    def _stop(self, keys: list[Key], why: Literal["failed", "released", "void"]) -> None:
        for attempt in (self._attempts[key] for key in keys):
            # Once is enough: a second cancellation would break into the handler's own cleaning up.
            if attempt.stopped is None:
                attempt.task.cancel()
            if attempt.stopped is None or why == "void":
                attempt.stopped = why

    async def _work(self, key: Key) -> tuple[Outcome, str] | None:
        job, fence = key
        async with self._free:
            started = await insist(lambda: self._functions.job_start(job, fence))
            if not isinstance(started, Running):
                return None
            self._attempts[key].started = True
            # the handler's own records have them, too
            logs.bind(job_id=job, fence=fence, attempt=started.attempt)
            return await self._handled(
                Job(job, fence, started.payload, started.remaining_ms, started.attempt, started.traceparent)
            )

    def _traced(self, job: Job) -> AbstractContextManager[object]:
        told: dict[str, str | int] = {"fleet.job.id": job.id, "fleet.fence": job.fence, "fleet.attempt": job.attempt}
        return tracing.span_under(job.traceparent, "run job", "CONSUMER", {**told, "fleet.node.id": self._node})

    async def _handled(self, job: Job) -> tuple[Outcome, str]:
        limit = asyncio.timeout(job.remaining_ms / 1000)
        try:
            async with limit:
                with self._traced(job):
                    result: object = await self._handler(job)
            if result is not None and not isinstance(result, str):
                return "failed", f"the handler's result must be text or None, it is {type(result).__name__}"
            if result is not None and len(result.encode()) > RESULT_MAX_BYTES:
                return "failed", f"the result is larger than {RESULT_MAX_BYTES} bytes"
        except Exception as error:
            if limit.expired():
                return "failed", f"the handler did not end within {job.remaining_ms} ms"
            log.warning(Line("job_failed", job_id=job.id, fence=job.fence, attempt=job.attempt), exc_info=error)
            # what cannot be encoded must not keep the failure from being told
            text = f"{type(error).__name__}: {error}"[:REASON_MAX]
            return "failed", text.encode("utf-8", "replace").decode()
        return "succeeded", result or ""

    def _worked(self, key: Key, attempt: _Attempt, task: "asyncio.Task[tuple[Outcome, str] | None]") -> None:
        del self._attempts[key]
        if task.cancelled():
            if attempt.stopped != "void":
                self._report(key, attempt.stopped or "failed", "the handler was cancelled")
        elif error := task.exception():
            log.error(Line("job_lost", job_id=key[0], fence=key[1]), exc_info=error)
        elif (ending := task.result()) is not None and attempt.stopped != "void":
            self._report(key, *ending)

    def _report(self, key: Key, outcome: Outcome, result: str = "") -> None:
        if key in self._reports:
            return
        if len(self._reports) >= self._in_hand_max:
            # Redis names it again with the next heartbeat, or ends it at its deadline.
            log.warning(Line("report_dropped", job_id=key[0], fence=key[1], waiting=len(self._reports)))
            return
        self._reports[key] = task = asyncio.create_task(self._deliver(key, outcome, result))
        task.add_done_callback(lambda _: self._reports.pop(key, None))

    async def _deliver(self, key: Key, outcome: Outcome, result: str) -> None:
        job, fence = key
        try:
            word = await insist(lambda: self._functions.job_finish(job, fence, outcome, result))
        except BadInput as error:
            log.error(Line("report_refused", job_id=job, fence=fence, error=str(error)))  # noqa: TRY400 - it says it all
        else:
            log.debug(Line("job_reported", job_id=job, fence=fence, outcome=outcome, answer=word))


async def _wait(tasks: "Iterable[asyncio.Task[object]] | Iterable[asyncio.Task[None]]", deadline_s: float) -> None:
    """Wait for these, at most deadline_s."""
    if waited := list(tasks):
        await asyncio.wait(waited, timeout=deadline_s)
