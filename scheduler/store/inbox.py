"""A node's inbox, read in order: deliveries and directives."""

from dataclasses import dataclass
from typing import Any, Literal

from redis.exceptions import RedisError

from scheduler.domain.ids import Fence, JobId, NodeId
from scheduler.errors import ServerUnavailable
from scheduler.store.client import Client
from scheduler.store.events import entries_of
from scheduler.store.keys import inbox_key


@dataclass(frozen=True, slots=True)
class Delivery:
    """One entry: a job to start, or a cancel of one, under a fence; `other` is what a newer library may add."""

    position: str
    kind: Literal["job", "cancel", "other"]
    job: JobId
    fence: Fence


class InboxReader:
    """Blocking reads of one inbox; give a client of connect_blocking."""

    def __init__(self, blocking: Client, shard: str, node: NodeId) -> None:
        self._blocking = blocking
        self._stream = inbox_key(shard, node)

    async def after(self, position: str, block_ms: int) -> list[Delivery]:
        """Up to 100 entries behind position ('0' at first); waits up to block_ms for one, then returns none."""
        try:
            answer: Any = await self._blocking.xread({self._stream: position}, count=100, block=block_ms)
        except (TimeoutError, RedisError, OSError) as error:
            raise ServerUnavailable(str(error)) from error
        return [_delivery(entry) for entry in entries_of(answer)]


def _delivery(entry: tuple[bytes, dict[bytes, bytes]]) -> Delivery:
    position, fields = entry
    kinds: dict[bytes | None, Literal["job", "cancel"]] = {b"job": "job", b"cancel": "cancel"}
    kind, job, fence = kinds.get(fields.get(b"kind")), fields.get(b"job", b""), fields.get(b"fence", b"")
    if kind is None or not job or not fence.isdigit():
        return Delivery(position.decode(), "other", JobId(""), Fence(0))
    return Delivery(position.decode(), kind, JobId(job.decode("utf-8", "replace")), Fence(int(fence)))
