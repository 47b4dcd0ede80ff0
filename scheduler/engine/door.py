"""How many placements may be under way: as many as are decided within half of the deadline, as seen lately."""

import time
from collections.abc import Awaitable
from typing import TypeVar

from scheduler.engine.batch import CALLS_MAX, QUEUED_MAX
from scheduler.store.functions import CLAIMS_MAX

T = TypeVar("T")
# What the calls under way carry waits for nothing but Redis: so many are always let in.
LIMIT_MIN = CALLS_MAX * CLAIMS_MAX
LIMIT_MAX = QUEUED_MAX
# until something was seen: a slow machine that takes a millisecond for each
_MS_EACH = 1
# by each placement; all that are under way together move the limit by a fifth, and then the next see what that did
_STEP = 0.2


class Door:
    """Counts placements and times them. Each that was late lowers the limit; each in time that came when it mattered
    raises it. So the limit needs no model of what makes placements late: their number, other requests, or Redis.
    """

    def __init__(self, deadline_ms: int) -> None:
        self._patience_s = deadline_ms / 2_000
        self._limit = float(min(max(deadline_ms / 2 / _MS_EACH, LIMIT_MIN), LIMIT_MAX))
        self.under_way = 0

    @property
    def limit(self) -> int:
        return int(self._limit)

    @property
    def shut(self) -> bool:
        """Whether one more would wait for longer than the deadline leaves room for."""
        return self.under_way >= self._limit

    async def passed(self, placement: Awaitable[T]) -> T:
        """The placement, counted and timed."""
        self.under_way += 1
        came_as, began = self.under_way, time.monotonic()
        try:
            return await placement
        finally:
            self.under_way -= 1
            self.saw(came_as, time.monotonic() - began)

    def saw(self, came_as: int, took_s: float) -> None:
        if took_s > self._patience_s:
            self._limit = max(self._limit - _STEP, LIMIT_MIN)
        elif came_as * 2 > self._limit:
            self._limit = min(self._limit + _STEP, LIMIT_MAX)
