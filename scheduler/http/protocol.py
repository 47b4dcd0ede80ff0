"""uvicorn's protocol with the bounds that it leaves to a proxy: a replica is also reached without one."""

import asyncio
from http import HTTPStatus
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from scheduler.http.connections import Connections
from scheduler.http.problems import Problem


def _as_sent(problem: Problem) -> bytes:
    body = msgspec.json.encode(problem.document)
    told = {
        "content-type": "application/problem+json",
        "content-length": str(len(body)),
        "connection": "close",
        **problem.headers(),
    }
    lines = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in told.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


_BROKEN = _as_sent(Problem(400, "Broken request", "this is not HTTP/1.1"))
_LATE = _as_sent(Problem(408, "Late request", "a whole request must arrive within the time for it"))
_LONG_URL = _as_sent(Problem(414, "URL too long", "the path with its query is longer than a replica takes"))
_LARGE_HEAD = _as_sent(Problem(431, "Headers too large", "the headers are more or longer than a replica takes"))
_FULL = _as_sent(
    Problem(
        503, "Unavailable", "this replica has as many connections as it may", code="overrun", retry_after_ms=1_000
    )
)


class _RefusedError(Exception):
    """Ends the parsing of what has been read."""


class Guarded(HttpToolsProtocol):
    """One connection. Nothing here is done for a request that would be the same without it, but for a few counts."""

    def __init__(self, *args: Any, table: Connections, **more: Any) -> None:
        super().__init__(*args, **more)
        self._table, self._limits = table, table.limits
        self._running: RequestResponseCycle | None = None
        self._partial = self._in_head = False
        # bytes of the reads behind the one in which the message began, and of the read under way
        self._fed = self._read = 0
        self._answer = _BROKEN

    @property
    def held_up(self) -> bool:
        return self.flow.read_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # told when all of an answer is taken, not when a part of it is still here
        transport.set_write_buffer_limits(high=16_384, low=0)
        if not self._table.opened(self, self.loop):
            transport.write(_FULL)
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.closed(self)
        self._forsake()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._read = len(data)
        super().data_received(data)
        if self._partial:
            self._fed += self._read
            if self._in_head:
                if answer := self._head_fault(self._fed):
                    self._end(answer)
            elif self._fed > self._limits.wire_bytes:
                self._end(b"")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._partial = self._in_head = True
        self._fed = -self._read
        self._table.idle.pop(self, None)
        if self not in self._table.arriving:
            self._table.arriving[self] = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        """What uvicorn does, but no more often than it may; it is spelled out because it is done so often."""
        if len(self.headers) >= self._limits.headers:
            self._answer = _LARGE_HEAD
            raise _RefusedError
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        limits = self._limits
        size = 0
        # a head that is whole in one small read needs no measuring
        if self._fed >= 0 or self._read > limits.head_bytes:
            size = sum(len(name) + len(value) + 4 for name, value in self.headers)
        if answer := self._head_fault(size):
            self._answer = answer
            raise _RefusedError
        self._in_head = False
        super().on_headers_complete()
        # trailers would come to the headers of a request that has been judged
        self.headers = []
        if len(self.pipeline) > limits.pipelined:
            raise _RefusedError

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._partial = False
        self._table.arriving.pop(self, None)
        if self.cycle.response_complete:
            # it was answered before it was all here
            self._table.idle[self] = self.loop.time()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """What uvicorn does, but for its timer: the table knows how long a connection has been idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._table.waits(self, self.loop.time())
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif not self._partial:
            self._table.idle[self] = self.loop.time()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._table.waits(self, self.loop.time())

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._table.untaken.pop(self, None)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the server's own words
        self._end(self._answer)

    def late(self) -> None:
        if self._partial:
            self._end(_LATE)
        else:
            self.let_go()

    def let_go(self) -> None:
        """It asks for nothing: the end, and at once where it has not even taken its last answer."""
        if not self.transport.is_closing():
            if self.transport.get_write_buffer_size():
                self.transport.abort()
            else:
                self.transport.close()

    def cut(self) -> None:
        self._end(b"")

    def _head_fault(self, size: int) -> bytes:
        limits = self._limits
        if len(self.url) > limits.url_bytes:
            return _LONG_URL
        return _LARGE_HEAD if size > limits.head_bytes or len(self.headers) > limits.headers else b""

    def _end(self, answer: bytes) -> None:
        """Answer if the next answer on this connection is for what is arriving, and let nothing else be sent."""
        running = self._running
        if self._in_head or running is None:
            free = running is None or running.response_complete
        else:
            free = running is self.cycle and not running.response_started
        self._forsake()
        if answer and free and not self.transport.is_closing():
            self.transport.write(answer)
            self._close()
        else:
            self.transport.abort()

    def _close(self) -> None:
        self.transport.close()
        self._table.waits(self, self.loop.time())

    def _forsake(self) -> None:
        """Nobody waits for the answer under way. Where requests wait behind it, uvicorn tells only the last."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
