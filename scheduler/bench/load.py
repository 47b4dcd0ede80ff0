"""A load process: requests at a constant rate, each timed from the instant at which it was due.

A slow answer delays no other request, so what is counted is what a person would wait. It is light, because it shares
the machine with what it measures. Its orders come in, and what it saw goes out, as msgpack: `python -m` this module.
"""

import asyncio
import itertools
import selectors
import subprocess
import sys
import time
from collections.abc import Callable

import msgspec

from scheduler.bench.stage import JOB
from scheduler.bench.targets import Seen, Target
from scheduler.errors import BenchmarkFailed

# select has no room for more than 1,024 files
PRECISE_MAX = 500
ANSWERED_S = 15.0
BODY = msgspec.json.encode(JOB)


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What to send. Rate and connections are those of each port; rate 0 is a closed loop.

    Several processes begin together at `begin_at` of the machine's monotonic clock; 0 is as soon as it is connected.
    With `redis` the one port is the server's, and each request is one bare claim.
    """

    ports: list[int]
    connections: int
    seconds: float
    rate: float = 0.0
    begin_at: float = 0.0
    redis: bool = False
    body: bytes = BODY


def start(load: Load) -> "subprocess.Popen[bytes]":
    """Run it in a process of its own; `seen` has what became of it."""
    process = subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if process.stdin is not None:
        process.stdin.write(msgspec.msgpack.encode(load))
        process.stdin.close()
        process.stdin = None
    return process


def seen(process: "subprocess.Popen[bytes]", load: Load) -> Seen:
    try:
        said, _ = process.communicate(timeout=load.seconds + ANSWERED_S + 60)
    finally:
        process.kill()
    if process.returncode:
        raise BenchmarkFailed(f"the load process ended with status {process.returncode}")
    return msgspec.msgpack.decode(said, type=Seen)


def only_placed(saw: Seen) -> Seen:
    """Anything but placements means that something else was measured."""
    if set(saw.latencies) != {201} or saw.broken or saw.unsent or saw.unanswered:
        raise BenchmarkFailed(
            f"the load saw {dict(saw.statuses())}, {saw.broken} broken, {saw.unsent} unsent and {saw.unanswered} "
            "unanswered, where only 201 may be"
        )
    return saw


def placed(load: Load) -> Seen:
    return only_placed(seen(start(load), load))


def percentile(values: list[int], share: float) -> float:
    """The least of the values that at least this share of them do not exceed; 0 where there are none."""
    if not values:
        return 0.0
    return float(sorted(values)[max(-int(-share * len(values) // 1), 1) - 1])


async def paced(rate: float, seconds: float, send: Callable[[float], None]) -> None:
    """Call send with the instant at which each request was due; what is late goes at once, with that instant."""
    began, sent, total = time.monotonic(), 0, int(rate * seconds)
    while sent < total:
        due = began + sent / rate
        if due > (now := time.monotonic()):
            await asyncio.sleep(due - now)
            continue
        send(due)
        sent += 1
        if sent % 32 == 0:
            # also far behind: answers must be read
            await asyncio.sleep(0)


async def _http(load: Load) -> Seen:
    saw = Seen()
    targets = [Target(port, load.body, saw, closed=load.rate == 0) for port in load.ports]
    for target in targets:
        await target.connect(load.connections)
    await asyncio.sleep(max(load.begin_at - time.monotonic(), 0))
    began = time.monotonic()
    if load.rate == 0:
        for target in targets:
            target.begin()
        await asyncio.sleep(load.seconds)
    else:
        turns = itertools.cycle(targets)

        def ask(due: float) -> None:
            next(turns).ask(due)

        await paced(load.rate * len(targets), load.seconds, ask)
    saw.seconds = time.monotonic() - began
    for target in targets:
        target.ended = True
    # once, at the end
    while any(target.out for target in targets) and time.monotonic() < began + load.seconds + ANSWERED_S:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    for target in targets:
        target.close()
    return saw


def _loop(load: Load) -> asyncio.AbstractEventLoop:
    """One with exact timers, where it has room for the connections: those of epoll are late by up to 1 ms."""
    few = load.connections * len(load.ports) <= PRECISE_MAX
    return asyncio.SelectorEventLoop(selectors.SelectSelector() if few else None)


def main() -> None:
    load = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Load)
    with asyncio.Runner(loop_factory=lambda: _loop(load)) as runner:
        if load.redis:
            from scheduler.bench.raw import raw

            saw = runner.run(raw(load))
        else:
            saw = runner.run(_http(load))
    sys.stdout.buffer.write(msgspec.msgpack.encode(saw))


if __name__ == "__main__":
    main()
