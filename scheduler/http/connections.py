"""Every connection of a replica by what it is to do next, and what ends those that do not do it in time."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Limits:
    """What connections may cost a replica. Durations in seconds."""

    connections: int = 8_192
    # A whole request from its first byte, and the first one from the connection's beginning.
    arrival_s: float = 10
    idle_s: float = 75
    # What was answered must be taken within this.
    untaken_s: float = 60
    # Answers of which a part waits here; each is up to some megabytes.
    untaken_answers: int = 512
    body_bytes: int = 1_048_576
    head_bytes: int = 32_768
    headers: int = 100
    url_bytes: int = 8_192
    # Requests that wait on one connection behind the one that is being answered.
    pipelined: int = 64

    @property
    def wire_bytes(self) -> int:
        """What one request may send in all: framing, trailers, and what still comes after an early answer."""
        return self.head_bytes + 4 * self.body_bytes


class Connection(Protocol):
    """What the table asks of one."""

    @property
    def held_up(self) -> bool:
        """Whether it is the replica that does not read."""
        ...

    def late(self) -> None: ...

    def let_go(self) -> None: ...

    def cut(self) -> None: ...


# Thousands that came together are late together: those behind these are ended a moment later, for others' sake.
ENDED_AT_ONCE, NEXT_LOOK_S = 32, 0.005
Since = OrderedDict[Connection, float]


class Connections:
    """The longest waiting stands first in each of the three, so that a look costs what it finds and no more."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.open = 0
        self.arriving: Since = OrderedDict()
        self.idle: Since = OrderedDict()
        self.untaken: Since = OrderedDict()
        self._loop: asyncio.AbstractEventLoop | None = None

    def opened(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether there is a place for it. Where all are taken, one that asks for nothing makes room."""
        self.open += 1
        if self._loop is None:
            self._loop = loop
            self._look_later(loop)
        now = loop.time()
        if self.open > self.limits.connections and not self._make_room(now):
            return False
        self.arriving[connection] = now
        return True

    def waits(self, connection: Connection, now: float) -> None:
        """Its answer is not taken. Where there are too many of these, the one that has waited longest goes."""
        self.untaken[connection] = now
        if len(self.untaken) > self.limits.untaken_answers:
            self.untaken.popitem(last=False)[0].cut()

    def closed(self, connection: Connection) -> None:
        self.open -= 1
        for since in (self.arriving, self.idle, self.untaken):
            since.pop(connection, None)

    def _make_room(self, now: float) -> bool:
        """Rather one that has begun a second ago and asked for nothing yet than one that has asked before."""
        begun = next(iter(self.arriving.items()), None)
        if begun is not None and (now - begun[1] > 1 or not self.idle):
            victim, _ = self.arriving.popitem(last=False)
        elif self.idle:
            victim, _ = self.idle.popitem(last=False)
        else:
            return False
        victim.let_go()
        return True

    def _look_later(self, loop: asyncio.AbstractEventLoop, *, soon: bool = False) -> None:
        limits = self.limits
        pause_s = min(1.0, limits.arrival_s / 4, limits.idle_s / 4, limits.untaken_s / 4)
        loop.call_later(NEXT_LOOK_S if soon else pause_s, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        late = _overdue(self.arriving, now - self.limits.arrival_s)
        for connection in late:
            if connection.held_up:
                self.arriving[connection] = now
            else:
                connection.late()
        idle = _overdue(self.idle, now - self.limits.idle_s)
        for connection in idle:
            connection.let_go()
        untaken = _overdue(self.untaken, now - self.limits.untaken_s)
        for connection in untaken:
            connection.cut()
        if self.open:
            self._look_later(loop, soon=max(map(len, (late, idle, untaken))) == ENDED_AT_ONCE)
        else:
            self._loop = None


def _overdue(since: Since, before: float) -> list[Connection]:
    """Some of those that have waited since then or longer, taken out."""
    found: list[Connection] = []
    while since and len(found) < ENDED_AT_ONCE and next(iter(since.values())) <= before:
        found.append(since.popitem(last=False)[0])
    return found
