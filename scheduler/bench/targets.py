"""The client side of a load: light connections that POST one body, each with one request out at a time."""

import asyncio
import time
from collections import Counter, deque
from typing import cast

import httptools
import msgspec

PATIENCE_S = 1.0


class Seen(msgspec.Struct):
    """Latencies in microseconds by status, in order of the answers; `unsent` found no free connection in a second."""

    latencies: dict[int, list[int]] = {}
    without_retry_after: int = 0
    broken: int = 0
    unsent: int = 0
    unanswered: int = 0
    seconds: float = 0.0

    def saw(self, status: int, took_s: float) -> None:
        self.latencies.setdefault(status, []).append(int(took_s * 1e6))

    def statuses(self) -> Counter[int]:
        return Counter({status: len(took) for status, took in self.latencies.items()})

    def all(self) -> list[int]:
        return [us for took in self.latencies.values() for us in took]


class _Connection(asyncio.Protocol):
    """Says so when it is free again."""

    transport: asyncio.WriteTransport

    def __init__(self, target: "Target") -> None:
        self._target = target
        self._parser = httptools.HttpResponseParser(self)
        self._due = 0.0
        self._retry_after = False
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)

    def send(self, due: float) -> None:
        self.busy, self._due = True, due
        self.transport.write(self._target.request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, _: bytes) -> None:
        if name == b"retry-after":
            self._retry_after = True

    def on_message_complete(self) -> None:
        status, told = self._parser.get_status_code(), self._retry_after
        self._parser = httptools.HttpResponseParser(self)
        self._retry_after = self.busy = False
        self._target.answered(self, self._due, status, retry_after=told)

    def connection_lost(self, _: Exception | None) -> None:
        self._target.lost(self)


class Target:
    """One port with its connections, and the requests that wait for one of these.

    `closed`: whatever is answered is asked again at once.
    """

    def __init__(self, port: int, body: bytes, saw: Seen, *, closed: bool) -> None:
        self.request = (
            b"POST /v1/jobs HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        self._port = port
        self._seen = saw
        self._closed = closed
        self._free: deque[_Connection] = deque()
        self._waiting: deque[float] = deque()
        self.out = 0
        self.ended = False

    async def connect(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
            self._free.append(connection)

    def begin(self) -> None:
        """Every connection asks."""
        while self._free:
            self.ask(time.monotonic())

    def ask(self, due: float) -> None:
        if self._free:
            self.out += 1
            self._free.popleft().send(due)
        else:
            self._waiting.append(due)
            self._forget(due - PATIENCE_S)

    def answered(self, connection: _Connection, due: float, status: int, *, retry_after: bool) -> None:
        now = time.monotonic()
        self._seen.saw(status, now - due)
        self._seen.without_retry_after += status == 503 and not retry_after
        self.out -= 1
        self._free.append(connection)
        if self._closed and not self.ended:
            self.ask(now)
            return
        self._forget(now - PATIENCE_S)
        if self._waiting:
            self.ask(self._waiting.popleft())

    def _forget(self, before: float) -> None:
        while self._waiting and self._waiting[0] < before:
            self._waiting.popleft()
            self._seen.unsent += 1

    def lost(self, connection: _Connection) -> None:
        if self.ended and not connection.busy:
            return
        self._seen.broken += 1
        self.out -= connection.busy
        if connection in self._free:
            self._free.remove(connection)

    def close(self) -> None:
        self._seen.unsent += len(self._waiting)
        self._seen.unanswered += self.out
        for connection in self._free:
            connection.transport.close()
