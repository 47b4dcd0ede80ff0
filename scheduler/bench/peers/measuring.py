"""One sample in a process of its own: call as fast as it goes for some seconds, print the rates as a line of JSON.

Only the standard library: it is imported in both environments.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable

# Of the processes that can have more than one call under way.
CALLERS = 64
PAYLOAD = {"text": "x" * 88}


def asked() -> tuple[str, float]:
    """The address of Redis and the seconds, from the command line."""
    return sys.argv[1], float(sys.argv[2])


def report(calls: int, wall_s: float, cpu_s: float) -> None:
    """Calls a second of wall clock, and of processor time of this process, user and system, all its threads."""
    print(json.dumps({"per_second": calls / wall_s, "per_cpu_second": calls / cpu_s}))


def measure(call: Callable[[], object], seconds: float) -> None:
    """One caller. The first calls, which connect and fill caches, are not counted."""
    for _ in range(CALLERS):
        call()
    calls, start, cpu = 0, time.perf_counter(), time.process_time()
    end = start + seconds
    while time.perf_counter() < end:
        call()
        calls += 1
    report(calls, time.perf_counter() - start, time.process_time() - cpu)


async def measure_async(call: Callable[[], Awaitable[object]], seconds: float) -> None:
    """So many callers, each with its next call as soon as its last has returned."""
    await asyncio.gather(*(call() for _ in range(CALLERS)))
    calls, start, cpu = 0, time.perf_counter(), time.process_time()
    end = start + seconds

    async def caller() -> None:
        nonlocal calls
        while time.perf_counter() < end:
            await call()
            calls += 1

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    report(calls, time.perf_counter() - start, time.process_time() - cpu)
