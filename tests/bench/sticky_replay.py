"""Sticky sessions on a fleet that loses nodes: one trace replayed with no affinity, sticky, and sticky with losses.

`python -m tests.bench.sticky_replay [TRACE] --speed 60`: real replicas, nodes as real processes with several agents
each. Without a trace it makes a workload of its own and says so. Records, asserts nothing.
"""

import argparse
import asyncio
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import redis

from scheduler.agent import Agent, NodeConfig
from scheduler.agent.demo import demo_handler
from scheduler.dev.load import wait_ready
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import EmbeddedServer, choose_server, free_port
from scheduler.domain.ids import NodeId, Token
from scheduler.sim.replay import Replay, ReplayPlan
from scheduler.sim.trace import Request, read_trace
from scheduler.store.library import read_library

PROCESSES, AGENTS, LOAD = 6, 4, 0.65
# a heartbeat that is missed this long means that the node is lost
TTL_MS = 1_500
LOST_EVERY_S, BACK_AFTER_S = 8.0, 3.0


def made_workload(requests: int = 3_000) -> list[Request]:
    """Sessions of a few turns each, in an hour; later turns carry what came before."""
    rng, made = random.Random(3), list[Request]()
    while len(made) < requests:
        session, at, tokens = f"s{len(made)}", rng.random() * 3_000_000, 500
        for _ in range(rng.randint(1, 8)):
            tokens += rng.randint(200, 3_000)
            made.append(Request(at, session, tokens, rng.randint(50, 700)))
            at += rng.expovariate(1 / 60_000)
    return sorted(made, key=lambda request: request.arrival_ms)


def slots_each(requests: list[Request], plan: ReplayPlan) -> int:
    """Slots of each node so that the mean load is about LOAD."""
    busy_s = sum(plan.service_s(request) for request in requests)
    span_s = max(requests[-1].arrival_ms / 1000 / plan.speed, 0.001)
    return max(round(busy_s / span_s / LOAD / (PROCESSES * AGENTS)), 1)


async def host(process: int, generation: int, slots: int, redis_url: str) -> None:
    """The agents of one process, until it is killed. One that replaces another has nodes of its own."""
    configs = [
        NodeConfig(
            NodeId(f"p{process}-{generation}-{i}"), slots, (Token("gpu"),), ttl_ms=TTL_MS, heartbeat_ms=400,
            cpu_max=100, mem_max=100, gpu_max=100,
        )
        for i in range(AGENTS)
    ]  # fmt: skip
    await asyncio.gather(*(Agent(config, demo_handler, redis_url).run() for config in configs))


class Hosts:
    """The node processes, and how they are lost."""

    def __init__(self, slots: int, redis_url: str) -> None:
        self._slots, self._url = slots, redis_url
        self._running = [self._spawn(process, 0) for process in range(PROCESSES)]
        self.lost = 0

    def _spawn(self, process: int, generation: int) -> "subprocess.Popen[bytes]":
        words = ("host", process, generation, self._slots, self._url)
        return spawn_bound([sys.executable, "-m", "tests.bench.sticky_replay", *map(str, words)])

    async def lose(self) -> None:
        """Kill one process after another for ever; each is replaced a few seconds later."""
        while True:
            await asyncio.sleep(LOST_EVERY_S)
            at = self.lost % PROCESSES
            self._running[at].kill()
            self.lost += 1
            await asyncio.sleep(BACK_AFTER_S)
            self._running[at] = self._spawn(at, self.lost)

    def stop(self) -> None:
        for process in self._running:
            process.kill()
        stop(self._running)


def wait_nodes(urls: list[str], deadline_s: float = 30) -> None:
    end = time.monotonic() + deadline_s
    for url in urls:
        while httpx.get(f"{url}/v1/cluster").json()["nodes"]["ready"] < PROCESSES * AGENTS:
            if time.monotonic() > end:
                raise TimeoutError(f"{url} does not know all nodes")
            time.sleep(0.05)


async def replayed(plan: ReplayPlan, requests: list[Request], hosts: Hosts, *, losses: bool) -> dict[str, Any]:
    losing = asyncio.create_task(hosts.lose()) if losses else None
    try:
        return await Replay(plan, requests, lambda _: None).run()
    finally:
        if losing is not None:
            losing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await losing


def run(title: str, requests: list[Request], affinity: str, speed: float, *, losses: bool) -> None:
    """One replay on a server, replicas and nodes of its own; prints a line."""
    choice, _ = choose_server({"PATH": os.environ["PATH"]})
    with EmbeddedServer(choice) as server, redis.Redis(port=server.port) as client:
        client.execute_command("FUNCTION", "LOAD", "REPLACE", read_library().code)
        ports = [free_port() for _ in range(3)]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        plan = ReplayPlan(tuple(urls), speed, ("gpu",), affinity)
        slots = slots_each(requests, plan)
        argv = [sys.executable, "-m", "scheduler.cli.main", "serve", "--redis-url", server.url, "--port"]
        with tempfile.TemporaryFile() as log:
            replicas = [spawn_bound([*argv, str(port)], stderr=log) for port in ports]
            hosts = Hosts(slots, server.url)
            try:
                asyncio.run(wait_ready(urls, 30))
                wait_nodes(urls)
                said = asyncio.run(replayed(plan, requests, hosts, losses=losses))
            finally:
                hosts.stop()
                stop(replicas)
    share, latency = said["follow_ups_on_their_node"], said["latency_ms"]
    print(f"{title} ({PROCESSES * AGENTS} nodes of {slots} slots, {hosts.lost} processes of {AGENTS} nodes lost)")
    print(f"  placed {said['placed']:,}  refused {said['refused']:,}  failed {said['failed']}  lost {said['lost']}")
    print(
        f"  follow-ups on their session's node {share:.1%}  balance {said['balance']}  conflicts {said['conflicts']}"
    )
    print(f"  p50 {latency['p50']} ms  p99 {latency['p99']} ms  finish failed {said['finish_failed']}", flush=True)


def main() -> int:
    if sys.argv[1:2] == ["host"]:
        process, generation, slots = map(int, sys.argv[2:5])
        asyncio.run(host(process, generation, slots, sys.argv[5]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", nargs="?", type=Path)
    parser.add_argument("--speed", type=float, default=60.0)
    options = parser.parse_args()
    requests = read_trace(options.trace) if options.trace else made_workload()
    print(
        f"{len(requests):,} requests {'of the trace' if options.trace else 'of a made workload'}, x {options.speed:g}"
    )
    run("no affinity", requests, "none", options.speed, losses=False)
    run("sticky", requests, "sticky", options.speed, losses=False)
    run("sticky, nodes lost", requests, "sticky", options.speed, losses=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
