"""Endless demo jobs over HTTP, within bounds, and what became of them."""

import asyncio
import contextlib
import random
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import httpx

from scheduler.dev.fleet import DEMANDS

IN_FLIGHT_MAX = 64
_SOMETIMES: dict[str, object] = {"requires": ["asr:xx"]}


@dataclass
class Tally:
    """What the load saw. `latencies_ms` holds the last thousand placements."""

    placed: int = 0
    failed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    nodes: Counter[str] = field(default_factory=Counter)
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=1_000))
    first_placement_at: float | None = None

    def saw(self, status: int, body: dict[str, Any], latency_ms: float) -> None:
        if status == 201:
            self.placed += 1
            self.latencies_ms.append(latency_ms)
            self.nodes[body["job"]["node"]["id"]] += 1
            if self.first_placement_at is None:
                self.first_placement_at = time.monotonic()
        elif "class" in body:
            self.refused[body["class"]] += 1
            if body.get("reasons"):
                self.reasons[max(body["reasons"], key=body["reasons"].__getitem__)] += 1
        else:
            self.failed += 1


async def run_load(urls: list[str], tally: Tally, per_second: float) -> None:
    """Send jobs at this mean rate, Poisson arrivals, until cancelled; what comes due while 64 are out is skipped."""
    room = asyncio.Semaphore(IN_FLIGHT_MAX)
    limits = httpx.Limits(max_connections=IN_FLIGHT_MAX)
    async with httpx.AsyncClient(timeout=5, limits=limits) as client, asyncio.TaskGroup() as group:

        async def one() -> None:
            demand = _SOMETIMES if random.random() < 0.01 else random.choice(DEMANDS)
            started = time.perf_counter()
            try:
                job = demand | {"payload": {"text": "hello"}}
                answer = await client.post(f"{random.choice(urls)}/v1/jobs", json=job)
                tally.saw(answer.status_code, answer.json(), (time.perf_counter() - started) * 1000)
            except (httpx.HTTPError, ValueError):
                tally.failed += 1
            finally:
                room.release()

        due = time.monotonic()
        while True:
            due = max(due + random.expovariate(per_second), time.monotonic() - 1)
            await asyncio.sleep(max(due - time.monotonic(), 0))
            if not room.locked():
                await room.acquire()
                group.create_task(one())


async def wait_ready(urls: list[str], deadline_s: float) -> None:
    """Return when every replica is ready; raises TimeoutError with what the slowest said."""
    said = "no answer"
    end = time.monotonic() + deadline_s
    async with httpx.AsyncClient(timeout=2) as client:
        for url in urls:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    answer = await client.get(f"{url}/readyz")
                    if answer.status_code == 200:
                        break
                    said = answer.text
                if time.monotonic() > end:
                    raise TimeoutError(f"{url} is not ready: {said}")
                await asyncio.sleep(0.05)


async def wait_nodes(url: str, count: int, deadline_s: float) -> None:
    """Return when so many nodes take jobs, or when the deadline has passed: the fleet is there all the same."""
    end = time.monotonic() + deadline_s
    async with httpx.AsyncClient(timeout=2) as client:
        while time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
                if (await client.get(f"{url}/v1/cluster")).json()["nodes"]["ready"] >= count:
                    return
            await asyncio.sleep(0.05)
