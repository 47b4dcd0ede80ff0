"""A replica that listens, with limits of the test's own, and a client that says bytes."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Self

import uvicorn
from starlette.types import ASGIApp

from scheduler.dev.server import free_port
from scheduler.http.connections import Limits
from scheduler.http.serving import listening
from tests.e2e.conftest import wait_until


@contextmanager
def served(app: ASGIApp, limits: Limits) -> Iterator[int]:
    """The application as `fleet serve` serves it, on the quick loop, in a thread; its port."""
    port = free_port()
    server = uvicorn.Server(listening(app, "127.0.0.1", port, limits=limits))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(partial(getattr, server, "started"), "the replica listens")
        yield port
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


class Wire:
    """One connection. What comes is kept as bytes."""

    def __init__(self, port: int, *, takes_bytes: int = 0) -> None:
        self.socket = socket.socket()
        if takes_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, takes_bytes)
        self.socket.settimeout(10)
        self.socket.connect(("127.0.0.1", port))
        self.heard = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, data: bytes) -> bool:
        """Whether it could be sent."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer, which has a length."""
        while b"\r\n\r\n" not in self.heard:
            self._hear()
        head, _, rest = self.heard.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
        while len(rest) < length:
            before = len(self.heard)
            self._hear()
            rest += self.heard[before:]
        self.heard = rest[length:]
        return int(head.split()[1]), rest[:length]

    def _hear(self) -> None:
        data = self.socket.recv(65_536)
        assert data, f"the connection ended after {self.heard[:200]!r}"
        self.heard += data

    def ended(self, within_s: float) -> bool:
        """Whether the other side ends it in time; says nothing meanwhile."""
        self.socket.settimeout(within_s)
        with contextlib.suppress(TimeoutError):
            try:
                while data := self.socket.recv(65_536):
                    self.heard += data
            except ConnectionError:
                return True
            return True
        return False

    def drip(self, data: bytes, every_s: float, within_s: float) -> float:
        """Send it byte by byte, again and again, until the connection ends; how long that took."""
        begun = time.monotonic()
        self.socket.settimeout(every_s)
        while time.monotonic() - begun < within_s:
            for at in range(len(data)):
                if not self.say(data[at : at + 1]):
                    return time.monotonic() - begun
                try:
                    heard = self.socket.recv(65_536)
                except TimeoutError:
                    continue
                except ConnectionError:
                    return time.monotonic() - begun
                self.heard += heard
                if not heard:
                    return time.monotonic() - begun
        raise AssertionError(f"still open after {within_s} s")
