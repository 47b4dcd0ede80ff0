"""Waiting for a job's end by one long poll after another."""

import time

from scheduler.domain.views import JobView
from scheduler.errors import Overrun

POLL_MS = 20_000
# After a poll that ended early: a replica that is about to stop answers at once.
PAUSE_S = 0.05


class Awaited:
    """One job until its end or the deadline."""

    def __init__(self, job: str, deadline_s: float) -> None:
        self._job, self._deadline_s = job, deadline_s
        self._end = time.monotonic() + deadline_s
        self._state = "not asked for yet"

    def left_s(self) -> float:
        """The time that is left; raises Overrun where there is none."""
        left_s = self._end - time.monotonic()
        if left_s <= 0:
            raise Overrun(f"job {self._job} has not ended within {self._deadline_s:g} s, it is {self._state}")
        return left_s

    def ended(self, view: JobView) -> bool:
        self._state = view.state
        return view.state.ended
