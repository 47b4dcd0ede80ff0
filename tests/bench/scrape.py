"""What /metrics costs a replica, and what the shard in numbers costs Redis.

Prints the rows of docs/metrics.md. Records, asserts nothing: `python -m tests.bench.scrape [--nodes 1000,10000]`.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import redis

from scheduler.bench.scaling import cpu_s
from scheduler.dev.load import wait_ready
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import EmbeddedServer, choose_server
from scheduler.store.library import read_library
from tests.e2e.conftest import free_ports_in_a_row
from tests.lua.keyspace import P
from tests.lua.shard import Shard

POOLS, TIMES, IDLE_S, HOUR_MS = 50, 300, 3, 3_600_000
FLEET = Path(sys.executable).with_name("fleet")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", default="1000,10000")
    sizes = [int(text) for text in parser.parse_args().nodes.split(",")]
    choice, said = choose_server(os.environ)
    print(said, file=sys.stderr)
    with EmbeddedServer(choice) as server, redis.Redis(port=server.port) as client:
        shard = Shard(client)
        for nodes in sizes:
            client.flushall()
            client.execute_command("FUNCTION", "LOAD", "REPLACE", read_library().code)
            fill(shard, nodes)
            scraped(server, nodes)
        print(f"the shard in numbers, nothing waits: {told_us(shard):.0f} µs of Redis")
        for priorities in (1, 10):
            wait(shard, priorities)
            print(f"the same, 128 demands of {priorities} priorities wait: {told_us(shard):.0f} µs")


def fill(shard: Shard, nodes: int) -> None:
    pools = {f"p{n}": {"selector": {"labels": {"pool": f"p{n}"}}} for n in range(POOLS)}
    shard.call("pools_apply", 0, json.dumps({"pools": pools}))
    with shard.client.pipeline(transaction=False) as pipe:
        for number in range(nodes):
            fields = ("endpoint", "http://n", "slots", 4, "ttl_ms", HOUR_MS, "capabilities", "work", "labels")
            pool = f"pool=p{number % POOLS}"
            pipe.execute_command("FCALL", "fleet1_node_register", 1, P, f"n{number}", *fields, pool)
        pipe.execute()


def scraped(server: EmbeddedServer, nodes: int) -> None:
    port = free_ports_in_a_row(1)
    url = f"http://127.0.0.1:{port}"
    replica = spawn_bound([str(FLEET), "serve", "--redis-url", server.url, "--port", str(port)])
    try:
        asyncio.run(wait_ready([url], 60))
        with httpx.Client(base_url=url, timeout=30) as http:
            took, text = [], ""
            http.get("/metrics")
            idle = cpu_s([replica.pid])
            time.sleep(IDLE_S)
            idle, spent, begun = cpu_s([replica.pid]) - idle, cpu_s([replica.pid]), time.perf_counter()
            for _ in range(TIMES):
                began = time.perf_counter()
                text = http.get("/metrics").text
                took.append((time.perf_counter() - began) * 1000)
            spent = cpu_s([replica.pid]) - spent - idle * (time.perf_counter() - begun) / IDLE_S
            series = sum(not line.startswith("#") for line in text.splitlines())
            assert f'fleet_snapshot_nodes{{shard="0"}} {float(nodes)}' in text
            p50, p99 = statistics.median(took), statistics.quantiles(took, n=100)[98]
            print(
                f"| {nodes:,} | {POOLS} | {series} | {len(text):,} | {spent / TIMES * 1000:.1f} ms "
                f"| {p50:.1f} ms, p99 {p99:.1f} ms |"
            )
    finally:
        stop([replica])


def wait(shard: Shard, priorities: int) -> None:
    """128 demands that wait, as the keys of such jobs would be."""
    shard.client.zadd(f"{P}:pending", {"j": 10**16})
    for number in range(128):
        name = f"{number:016x}:acme"
        shard.client.hset(f"{P}:waiting", name, "{}")
        shard.client.zadd(f"{P}:queue:{name}", {f"j{turn}": turn * 10**13 + 1.7e12 for turn in range(priorities)})


def told_us(shard: Shard) -> float:
    """What one call takes Redis more than the same without."""
    cursor = shard.meta("version")

    def mean_us(*more: int) -> float:
        shard.client.config_resetstat()
        for _ in range(TIMES):
            shard.call("mirror_read", cursor, cursor, shard.meta("config_version"), 100, *more)
        stats: Any = shard.client.info("commandstats")
        return float(stats["cmdstat_fcall"]["usec_per_call"])

    return mean_us(1) - mean_us()


if __name__ == "__main__":
    main()
