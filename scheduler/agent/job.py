"""One attempt at a job, as a handler sees it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from scheduler.domain.ids import Fence, JobId


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt, as the handler sees it. payload is JSON text, '' where there is none.

    traceparent is the W3C Trace Context of the job's request, '' where it has none.
    The handler is cancelled, as asyncio tasks are, when the job is cancelled or remaining_ms are over.
    """

    id: JobId
    fence: Fence
    payload: str
    remaining_ms: int
    attempt: int = 1
    traceparent: str = ""


Handler = Callable[[Job], Awaitable[str | None]]
