"""One attempt at a job, as a handler sees it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from scheduler.domain.ids import Fence, JobId


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt, as the handler sees it. payload is JSON text, '' where there is none.

    The handler is cancelled, as asyncio tasks are, when the job is cancelled or remaining_ms are over.
    """

    id: JobId
    fence: Fence
    payload: str
    remaining_ms: int


Handler = Callable[[Job], Awaitable[str | None]]
