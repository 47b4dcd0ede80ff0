"""Row l: what a placement costs Redis when its shards lie on 1, 2 and 3 primaries of a cluster.

The number of shards is the same each time, so that claims travel in batches alike; only the primaries differ. Counted
are the leases of all shards and the CPU of all primaries between the same two instants. One process places.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from redis.cluster import RedisCluster

from scheduler.bench.figures import Figure
from scheduler.bench.scaling import cpu_s
from scheduler.bench.stage import HOUR_MS, Plan, capabilities
from scheduler.dev.cluster import EmbeddedCluster
from scheduler.dev.process import spawn_bound, stop
from scheduler.domain.shards import home_tag
from scheduler.errors import BenchmarkFailed
from scheduler.store.layout import chosen_tags
from scheduler.store.library import read_library

COUNTS, SHARDS, NODES, SETTLED_S = (1, 2, 3), 6, 300, 1.0


def _fcall(client: RedisCluster, tag: str, name: str, *args: str | int) -> None:
    client.execute_command("FCALL", f"fleet1_{name}", 1, f"fleet:{{{tag}}}", *args)


def _seed(client: RedisCluster) -> None:
    tags = chosen_tags(SHARDS)
    client.flushall(target_nodes=RedisCluster.PRIMARIES)
    client.execute_command("FUNCTION", "LOAD", "REPLACE", read_library().code, target_nodes=RedisCluster.PRIMARIES)
    for tag in reversed(tags):
        _fcall(client, tag, "shard_init", " ".join(tags))
    for i in range(NODES):
        fields = ("endpoint", f"http://10.0.0.1:{i}", "slots", 1_000_000, "ttl_ms", HOUR_MS)
        _fcall(client, home_tag(tags, f"n{i}"), "node_register", f"n{i}", *fields, "capabilities", capabilities(i))


def _leases(client: RedisCluster) -> int:
    return sum(int(client.zcard(f"fleet:{{{tag}}}:leases")) for tag in chosen_tags(SHARDS))


def _measured(cluster: EmbeddedCluster, plan: Plan) -> tuple[float, float]:
    """Microseconds of Redis for a placement, and placements a second."""
    with RedisCluster(host="127.0.0.1", port=cluster.servers[0].port) as client:
        _seed(client)
        seconds = plan.seconds + 4 * SETTLED_S
        argv = [sys.executable, "-m", "scheduler.bench.placing", cluster.url, str(seconds)]
        process = spawn_bound(argv, stdout=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 30
            while _leases(client) == 0:
                if process.poll() is not None or time.monotonic() > end:
                    raise BenchmarkFailed("nothing is placed on the cluster")
                time.sleep(0.01)
            time.sleep(SETTLED_S)
            pids = [server.pid for server in cluster.servers]
            begun, leases, spent = time.monotonic(), _leases(client), cpu_s(pids)
            time.sleep(plan.seconds)
            leases, spent, took_s = _leases(client) - leases, cpu_s(pids) - spent, time.monotonic() - begun
        finally:
            stop([process])
    return spent / leases * 1e6, leases / took_s


def run(plan: Plan) -> Iterator[Figure]:
    costs: dict[int, list[float]] = {count: [] for count in COUNTS}
    rates: dict[int, list[float]] = {count: [] for count in COUNTS}
    for turn in range(plan.pairs):
        for count in COUNTS if turn % 2 else reversed(COUNTS):
            with EmbeddedCluster(plan.choice, primaries=count) as cluster:
                cost, rate = _measured(cluster, plan)
            costs[count].append(cost)
            rates[count].append(rate)
    typical = {count: statistics.median(seen) for count, seen in costs.items()}
    yield Figure(
        row="l",
        what=f"Redis's CPU of a placement, {SHARDS} shards on 1, 2, 3 primaries, dearest ÷ cheapest",
        unit="x",
        value=max(typical.values()) / min(typical.values()),
        at_most=1.15,
        samples=[max(seen) / min(seen) for seen in zip(*costs.values(), strict=True)],
        detail={
            **{f"µs on {count}": cost for count, cost in typical.items()},
            **{f"placements/s on {count}": statistics.median(rates[count]) for count in COUNTS},
        },
    )
