"""How often, where and for how long one call is tried; waits and sends nothing itself, so both clients share it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import httpx

from scheduler.client.calls import Call
from scheduler.client.refusals import NoReplica, Refused, document_of, error_of
from scheduler.client.urls import Urls
from scheduler.domain.reason import RefusalClass
from scheduler.errors import FleetError

T = TypeVar("T")
# A replica decides within a second; one that is silent for longer hangs, and another one may not.
ANSWER_S = 2.0
ASIDE_S = 1.0
PAUSE_S = 0.05
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Turn:
    """Wait so long, then send to this address, and give up after so long."""

    url: str
    pause_s: float
    timeout_s: float


class Attempts(Generic[T]):
    """One call until its deadline. Every way out but an answer is an exception."""

    def __init__(self, call: Call[T], urls: Urls, deadline_s: float) -> None:
        self._call, self._urls = call, urls
        self._end = time.monotonic() + deadline_s
        self._deadline_s = deadline_s
        self._last: FleetError | None = None
        self._pause_s = 0.0

    def turn(self) -> Turn:
        """The next try; raises what stood in the way of the last one where no time is left."""
        now = time.monotonic()
        url, away_s = self._urls.pick(now)
        pause_s = max(away_s, self._pause_s)
        left_s = self._end - now - pause_s
        if left_s <= 0:
            raise self._last or NoReplica(f"within {self._deadline_s:g} s")
        return Turn(url, pause_s, min(left_s, ANSWER_S + self._call.holds_s))

    def failed(self, turn: Turn, error: Exception) -> None:
        """There was no answer. Raises unless the call may be sent again."""
        now = time.monotonic()
        self._urls.set_aside(turn.url, now + ASIDE_S)
        self._pause_s = PAUSE_S
        self._last = NoReplica(f"{turn.url}: {type(error).__name__} {error}".rstrip())
        if not self._call.repeatable and not isinstance(error, NEVER_SENT):
            raise self._last from error

    def answered(self, turn: Turn, status: int, headers: Mapping[str, str], content: bytes) -> tuple[T] | None:
        """The answer, in a tuple because it may be None; None where the call is to be sent again."""
        if status < 300:
            return (self._call.read(content),)
        error = error_of(status, document_of(content))
        if not self._again(turn, error, headers):
            raise error
        self._last = error
        return None

    def _again(self, turn: Turn, error: FleetError, headers: Mapping[str, str]) -> bool:
        now, text = time.monotonic(), headers.get("retry-after", "")
        after_s = float(text) if text.isascii() and text.isdigit() and len(text) < 9 else None
        if isinstance(error, NoReplica) and self._call.repeatable:
            self._urls.set_aside(turn.url, now + (ASIDE_S if after_s is None else after_s))
            self._pause_s = PAUSE_S
            return True
        if isinstance(error, Refused) and self._call.patient and error.class_ is not RefusalClass.IMPOSSIBLE:
            # the fleet says so, not this replica: any other one would say the same until then
            self._pause_s = ASIDE_S if after_s is None else after_s
            return True
        return False
