"""Row i: the CPU of one placement with 1, 2, 4 and 8 replicas, each with 8 connections that ask again at once.

Counted is all that replicas and Redis spend while the load is steady, with what a replica spends by being there
(refreshing, reaping): where the first replicas fill the machine, that is spread over ever fewer placements of each,
and the figure tells how much it is. The load process is not counted. A gentle load at a constant rate would be less
fair to few replicas: whoever is woken for a single request finds its caches cold, and pays twice for it.
"""

import statistics
import time
from collections.abc import Iterator, Sequence

import psutil

from scheduler.bench.figures import Figure
from scheduler.bench.load import Load, only_placed, seen, start
from scheduler.bench.over_http import fleet_of, refill
from scheduler.bench.stage import P, Plan, Stage, staged
from scheduler.dev.process import stop

EACH, COUNTS = 8, (1, 2, 4, 8)
# of the load process, before and after what is counted
SETTLED_S = 0.5


def cpu_s(pids: Sequence[int]) -> float:
    """Seconds of CPU that these processes have used so far."""
    spent = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(times.user + times.system for times in spent)


def _ports(stage: Stage, plan: Plan, count: int) -> list[int]:
    """So many replicas and no others, with the fleet in sight."""
    stop(stage.children)
    stage.children.clear()
    urls = stage.replicas(count)
    refill(stage, fleet_of(plan), urls)
    return [int(url.rpartition(":")[2]) for url in urls]


def _measured(stage: Stage, plan: Plan, count: int) -> tuple[float, float, float]:
    """Microseconds of CPU for a placement, placements a second, and microseconds of one idle replica in a second."""
    ports = _ports(stage, plan, count)
    replicas = [child.pid for child in stage.children]
    idle = cpu_s(replicas)
    time.sleep(plan.seconds)
    idle = (cpu_s(replicas) - idle) / plan.seconds / count
    load = Load(ports=ports, connections=EACH, seconds=plan.seconds + 3 * SETTLED_S)
    # each placement is a lease here, and nothing ends: so they are counted at the same two instants as the CPU
    before = stage.client.zcard(f"{P}:leases")
    process = start(load)
    while stage.client.zcard(f"{P}:leases") == before and process.poll() is None:
        time.sleep(0.01)
    time.sleep(SETTLED_S)
    pids = [*replicas, stage.server.pid]
    leases, spent = stage.client.zcard(f"{P}:leases"), cpu_s(pids)
    time.sleep(plan.seconds)
    spent, leases = cpu_s(pids) - spent, stage.client.zcard(f"{P}:leases") - leases
    only_placed(seen(process, load))
    return spent / leases * 1e6, leases / plan.seconds, idle * 1e6


def run(plan: Plan) -> Iterator[Figure]:
    with staged(plan) as stage:
        each: dict[int, list[float]] = {count: [] for count in COUNTS}
        rates: dict[int, list[float]] = {count: [] for count in COUNTS}
        idle: list[float] = []
        for turn in range(plan.pairs):
            for count in COUNTS if turn % 2 else reversed(COUNTS):
                cost, rate, rest = _measured(stage, plan, count)
                each[count].append(cost)
                rates[count].append(rate)
                idle.append(rest)
    typical = {count: statistics.median(costs) for count, costs in each.items()}
    yield Figure(
        row="i",
        what=f"CPU of a placement with {', '.join(map(str, COUNTS))} replicas of 8 connections, dearest ÷ cheapest",
        unit="x",
        value=max(typical.values()) / min(typical.values()),
        at_most=1.15,
        samples=[max(costs) / min(costs) for costs in zip(*each.values(), strict=True)],
        detail={
            **{f"µs with {count}": cost for count, cost in typical.items()},
            **{f"placements/s with {count}": statistics.median(rates[count]) for count in COUNTS},
            "µs of an idle replica in a second": statistics.median(idle),
        },
    )
