"""The event stream, read in order from a position, or a page at a time in either direction."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
from redis.exceptions import RedisError

from scheduler.errors import BadInput, ServerUnavailable
from scheduler.store.client import Client, heeding_cancel

BLOCK_MS = 1_000
PAGE = 1_000
START = "0-0"
_POSITION = re.compile(r"^([0-9]{1,20})(?:-([0-9]{1,20}))?\Z")


def checked_position(field: str, value: str) -> str:
    """A place in the stream in its one spelling: `<milliseconds>-<number>`, or `<milliseconds>` alone."""
    found = _POSITION.match(value)
    parts = [int(part or 0) for part in found.groups()] if found else []
    if not parts or max(parts) >= 2**64:
        raise BadInput(field, "must be the id of an event, such as 1767225600000-0")
    return f"{parts[0]}-{parts[1]}"


def order(position: str) -> tuple[int, int]:
    """What positions are compared by."""
    ms, _, number = position.partition("-")
    return int(ms), int(number)


@dataclass(frozen=True)
class Event:
    """One transition. `position` is its stream id, which begins with wall-clock milliseconds."""

    position: str
    kind: str
    fields: dict[str, str]

    @property
    def at_ms(self) -> int:
        return int(self.position.partition("-")[0])

    @cached_property
    def json(self) -> str:
        """The event as one JSON object; made once for all who are told."""
        told = {"id": self.position, "at_ms": self.at_ms, "kind": self.kind}
        return msgspec.json.encode(told | {k: v for k, v in self.fields.items() if k not in told}).decode()


class EventReader:
    """Reads of one shard's stream of events, or of its audit, which has the same form.

    `after` blocks and needs a connection of its own: a client of connect_blocking.
    """

    def __init__(self, blocking: Client, stream: str) -> None:
        self._blocking = blocking
        self._stream = stream

    async def span(self) -> tuple[str, str]:
        """The positions of the oldest and the newest event that are kept; twice the start where none is."""
        oldest = await self._ask("XRANGE", self._stream, "-", "+", "COUNT", 1)
        newest = await self._ask("XREVRANGE", self._stream, "+", "-", "COUNT", 1)
        return oldest[0][0].decode() if oldest else START, newest[0][0].decode() if newest else START

    async def after(self, position: str, block_ms: int = BLOCK_MS) -> list[Event]:
        """Up to 1,000 events behind position; waits up to block_ms for the first, then returns none."""
        try:
            answer: Any = await self._blocking.xread({self._stream: position}, count=PAGE, block=block_ms)
        except (TimeoutError, RedisError, OSError) as error:
            raise ServerUnavailable(str(error)) from error
        return [_event(entry) for entry in entries_of(answer)]

    async def between(self, after: str, until: str = "+") -> list[Event]:
        """Up to 1,000 events behind `after`, the oldest first, none behind `until`."""
        return await self._range("XRANGE", f"({after}", until)

    async def before(self, position: str = "+") -> list[Event]:
        """Up to 1,000 events in front of position, the newest first."""
        return await self._range("XREVRANGE", position if position == "+" else f"({position}", "-")

    async def _range(self, command: str, begin: str, end: str) -> list[Event]:
        found = await self._ask(command, self._stream, begin, end, "COUNT", PAGE)
        return [_event((entry[0], _pairs(entry[1]))) for entry in found]

    async def _ask(self, *command: str | int) -> Any:
        try:
            with heeding_cancel():
                return await self._blocking.execute_command(*command)
        except (TimeoutError, RedisError, OSError) as error:
            raise ServerUnavailable(str(error)) from error


def entries_of(answer: Any) -> list[Any]:
    """The entries of an XREAD of one stream, in either protocol; none where it ran into its time limit."""
    streams = answer.items() if isinstance(answer, dict) else answer or []
    found: list[Any] = []
    for _, entries in streams:
        # the newer protocol wraps the entries in one more list
        nested = entries and isinstance(entries[0], list) and entries[0] and isinstance(entries[0][0], tuple)
        found.extend(entries[0] if nested else entries)
    return found


def _pairs(fields: Any) -> dict[bytes, bytes]:
    return fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))


def _event(entry: tuple[bytes, dict[bytes, bytes]]) -> Event:
    position, raw = entry
    fields = {key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in raw.items()}
    return Event(position.decode(), fields.pop("kind", ""), fields)
