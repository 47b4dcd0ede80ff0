"""How many placements may be under way: as many as are decided within a quarter of the deadline, as seen lately."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from scheduler.engine.batch import CALLS_MAX
from scheduler.store.functions import CLAIMS_MAX

# What the calls under way carry waits for nothing but Redis: so many are always let in.
LIMIT_MIN = CALLS_MAX * CLAIMS_MAX
# until something was seen: a slow machine
_SECONDS_EACH = 0.001
# of one sample; hundreds come in each deadline when it matters
_WEIGHT = 0.02


class Door:
    """Counts placements and times them. A placement that came as the n-th and took t seconds cost t / n each.

    Only samples of a queue that matters count: alone, t is the round trip, and says nothing of how many would fit.
    """

    def __init__(self, deadline_ms: int) -> None:
        self._patience_s = deadline_ms / 4000
        self._each_s = _SECONDS_EACH
        self.under_way = 0

    @property
    def limit(self) -> int:
        return max(int(self._patience_s / self._each_s), LIMIT_MIN)

    @property
    def shut(self) -> bool:
        """Whether one more would wait for longer than the deadline leaves room for."""
        return self.under_way >= LIMIT_MIN and self.under_way >= self.limit

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Around a placement."""
        self.under_way += 1
        came_as, began = self.under_way, time.monotonic()
        try:
            yield
        finally:
            self.under_way -= 1
            if came_as >= LIMIT_MIN // 2:
                self.saw(came_as, time.monotonic() - began)

    def saw(self, came_as: int, took_s: float) -> None:
        self._each_s += _WEIGHT * (took_s / came_as - self._each_s)
