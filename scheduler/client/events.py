"""What happens, as a replica's event stream tells it, and where to go on when the stream ends."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
from httpx_sse import ServerSentEvent

from scheduler.client.attempts import ASIDE_S, PAUSE_S, Turn
from scheduler.client.refusals import Failed, NoReplica, document_of, error_of
from scheduler.client.urls import Urls

# A replica says something every 15 seconds.
SILENT_S = 40.0
CONNECT_S = 2.0
TIMEOUT = httpx.Timeout(CONNECT_S, read=SILENT_S)


class Event(msgspec.Struct, frozen=True):
    """One thing that happened. `fields` are those of its kind; new kinds and fields may come."""

    id: str
    kind: str
    at_ms: int
    fields: dict[str, Any]


class Gap(msgspec.Struct, frozen=True):
    """Events are missing here: so many, or with None an unknown number."""

    missed: int | None


@dataclass
class Following:
    """One stream over many connections: what to ask for, what was heard last, and how long nobody has answered."""

    urls: Urls
    kinds: Collection[str]
    job: str | None
    node: str | None
    after: str | None
    patience_s: float

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.patience_s
        self._heard = False
        self._pause_s = 0.0
        self._last: NoReplica | None = None

    def query(self) -> dict[str, str]:
        asked = {"kind": ",".join(self.kinds), "job": self.job or "", "node": self.node or ""}
        # an id of several shards is taken from the header only where it stands alone
        return {name: value for name, value in asked.items() if value} | ({"after": self.after} if self.after else {})

    def turn(self) -> Turn:
        now = time.monotonic()
        url, away_s = self.urls.pick(now)
        pause_s = max(away_s, self._pause_s)
        if now + pause_s > self._end:
            raise self._last or NoReplica(f"within {self.patience_s:g} s")
        return Turn(url, pause_s, CONNECT_S)

    def opened(self) -> Gap | None:
        """The stream goes on; a gap where it begins now for the second time, for nothing says where it was."""
        lost = self._heard and self.after is None
        self._heard = True
        return Gap(None) if lost else None

    def refused(self, turn: Turn, status: int, content: bytes) -> None:
        """Another replica may answer; raises where none would."""
        error = error_of(status, document_of(content))
        if not isinstance(error, NoReplica):
            raise error
        self._failed(turn, error)

    def ended(self, turn: Turn, error: Exception | None = None) -> None:
        """The connection is over: the replica stops, or it was lost."""
        self._failed(turn, NoReplica(f"{turn.url}: {type(error).__name__} {error}" if error else turn.url))

    def _failed(self, turn: Turn, error: NoReplica) -> None:
        self.urls.set_aside(turn.url, time.monotonic() + ASIDE_S)
        self._pause_s, self._last = PAUSE_S, error

    def heard(self, sse: ServerSentEvent) -> Event | Gap | None:
        """What the frame says; a sign of life says nothing."""
        self._end = time.monotonic() + self.patience_s
        if not sse.data:
            return None
        try:
            told = msgspec.json.decode(sse.data, type=dict[str, Any])
            if sse.event == "gap":
                return Gap(told["missed"])
            self.after = sse.id or self.after
            return Event(told.pop("id"), told.pop("kind"), told.pop("at_ms"), told)
        except (msgspec.MsgspecError, KeyError) as error:
            raise Failed(f"an event that cannot be read: {sse.data[:200]}") from error
