"""One kind of hostile traffic as a process of its own: `python -m tests.hostile.attack <kind> <port> <connections>`.

Says `ready` once the connections are under way, and what became of them as JSON when it is told to stop (SIGTERM).
"""

import asyncio
import contextlib
import itertools
import json
import random
import resource
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

# Of one address to one port there are some 28,000 connections; each of these takes a part of them.
SOURCES = [f"127.0.0.{last}" for last in range(2, 12)]
# Connections that are ended are made anew, but no more than so many a second: hostile, and not only busy.
FIRST_A_S, AGAIN_A_S = 2_000, 300
DRIP_S = 1.0
HEAD = b"POST /v1/jobs HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
# what costs least: these are to be many, not busy
GET = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"
LARGE = b" " * 65_536

BROKEN = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    HEAD + b"content-length: -1\r\n\r\n",
    HEAD + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n{}",
    HEAD + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    HEAD + b"content-length: 20000\r\n\r\n" + b"[" * 20_000,
    HEAD + b"content-length: 30027\r\n\r\n" + b'{"requires":["a"],"payload":' + b"[" * 29_999,
    HEAD.replace(b"json", b"msgpack") + b"content-length: 5\r\n\r\n\xdd\x7f\xff\xff\xff",
    HEAD + b"content-length: 2\r\nx-fleet-tenant: a:b\r\n\r\n{}",
    b"GET /v1/jobs/%00%ff%0d%0a HTTP/1.1\r\nhost: a\r\n\r\n",
]
OVERSIZED = [
    HEAD + b"content-length: 10000000000\r\n\r\n",
    HEAD + b"transfer-encoding: chunked\r\n\r\n" + (b"10000\r\n" + LARGE + b"\r\n") * 20,
    b"GET /" + b"a" * 200_000,
    b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x-a: b\r\n" * 20_000,
    b"GET / HTTP/1.1\r\nhost: a\r\nx-a: " + b"b" * 65_536 + b"\r\n\r\n",
]


@dataclass
class Told:
    """What became of the connections; `held` are there now."""

    opened: int = 0
    held: int = 0
    ended_by_server: int = 0
    oldest_s: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Act = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
told = Told()
broken, oversized = itertools.cycle(BROKEN), itertools.cycle(OVERSIZED)


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, piece: bytes) -> None:
    """A piece each second until the other side ends it; not all attackers at the same moment."""
    await asyncio.sleep(random.random() * DRIP_S)
    while not reader.at_eof():
        writer.write(piece)
        await writer.drain()
        with contextlib.suppress(TimeoutError):
            heard = await asyncio.wait_for(reader.read(4_096), DRIP_S)
            _count(heard)


def _count(heard: bytes) -> None:
    if heard.startswith(b"HTTP/1.1 "):
        told.statuses[heard[9:12].decode()] += 1


async def slow_heads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET /v1/nodes HTTP/1.1\r\nhost: a\r\n")
    await _drip(reader, writer, b"x-a: b\r\n")


async def slow_bodies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"content-length: 100000\r\n\r\n")
    await _drip(reader, writer, b" ")


async def idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Every second one asks once before it is idle."""
    if told.opened % 2:
        writer.write(GET)
    while heard := await reader.read(4_096):
        _count(heard)


async def _send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes) -> None:
    writer.write(sent)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            _count(await reader.read(4_096))


async def send_broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _send(reader, writer, next(broken))
    await asyncio.sleep(0.1)


async def send_oversized(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A request that is too large, and more of it after the answer."""
    await _send(reader, writer, next(oversized))
    for _ in range(100):
        writer.write(LARGE)
        await writer.drain()
        await asyncio.sleep(0.1)
        if reader.at_eof():
            return


async def unread(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Asks for long answers and takes none."""
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    for _ in range(15):
        writer.write(b"GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n")
        await asyncio.sleep(1)


KINDS: dict[str, Act] = {
    "slow-heads": slow_heads,
    "slow-bodies": slow_bodies,
    "idle": idle,
    "malformed": send_broken,
    "oversized": send_oversized,
    "unread": unread,
}


async def _keep(act: Act, port: int, source: str, turns: "Iterator[float]") -> None:
    """One connection after the other."""
    while True:
        await asyncio.sleep(max(next(turns) - time.monotonic(), 0))
        writer = None
        begun = time.monotonic()
        try:
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, local_addr=(source, 0), limit=65_536
                )
            told.opened += 1
            told.held += 1
            await act(reader, writer)
            told.ended_by_server += reader.at_eof()
        except ConnectionError:
            told.ended_by_server += 1
        except (OSError, TimeoutError):
            told.statuses["no connection"] += 1
        finally:
            if writer is not None:
                told.held -= 1
                told.oldest_s = max(told.oldest_s, time.monotonic() - begun)
                writer.transport.abort()


def _turns(count: int) -> Iterator[float]:
    """When the next connection may be made."""
    at = time.monotonic()
    for number in itertools.count():
        at = max(at + 1 / (FIRST_A_S if number < count else AGAIN_A_S), time.monotonic())
        yield at


async def attack(kind: str, port: int, count: int) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    turns = _turns(count)
    tasks = [asyncio.create_task(_keep(KINDS[kind], port, SOURCES[n % len(SOURCES)], turns)) for n in range(count)]
    end = time.monotonic() + 30
    while told.opened < count and time.monotonic() < end and not over.is_set():
        await asyncio.sleep(0.05)
    print("ready", flush=True)
    await over.wait()
    held = told.held
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    told.held = held
    print(json.dumps(told.__dict__), flush=True)


def main() -> None:
    kind, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    socket.setdefaulttimeout(None)
    asyncio.run(attack(kind, port, count))


if __name__ == "__main__":
    main()
