"""The event stream, read in order from a position."""

from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from scheduler.errors import ServerUnavailable
from scheduler.store.keys import events_key

BLOCK_MS = 1_000
PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Event:
    """One transition. `position` is its stream id, which begins with wall-clock milliseconds."""

    position: str
    kind: str
    fields: dict[str, str]


class EventReader:
    """Blocking reads need a connection of their own: give a client of connect_blocking."""

    def __init__(self, blocking: Redis, shard: str) -> None:
        self._blocking = blocking
        self._stream = events_key(shard)

    async def newest(self) -> str:
        """The position of the last event, or the stream's beginning."""
        found = await self._ask("XREVRANGE", self._stream, "+", "-", "COUNT", 1)
        return found[0][0].decode() if found else "0-0"

    async def after(self, position: str, block_ms: int = BLOCK_MS) -> list[Event]:
        """Up to 1,000 events behind position; waits up to block_ms for the first, then returns none."""
        try:
            answer: Any = await self._blocking.xread({self._stream: position}, count=PAGE, block=block_ms)
        except (TimeoutError, RedisError, OSError) as error:
            raise ServerUnavailable(str(error)) from error
        return [_event(entry) for entry in entries_of(answer)]

    async def _ask(self, *command: str | int) -> Any:
        try:
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


def _event(entry: tuple[bytes, dict[bytes, bytes]]) -> Event:
    position, raw = entry
    fields = {key.decode(): value.decode("utf-8", "replace") for key, value in raw.items()}
    return Event(position.decode(), fields.pop("kind", ""), fields)
