"""Row i: the CPU that one placement costs with 1, 2, 4 and 8 replicas, each under the same load.

Every replica has 8 connections of its own and the same constant rate, a tenth of what one can do alone. So the
machine is never full: in a closed loop eight replicas on two cores would be measured against each other, and the
cost of being there (refreshing, reaping) would be spread over ever fewer placements. Counted is all that replicas and
Redis spend while the load is steady, that cost included; `idle` says how large it is. The load process is not.
"""

import statistics
import time
from collections.abc import Iterator, Sequence

import psutil

from scheduler.bench.figures import Figure
from scheduler.bench.load import Load, placed, seen, start
from scheduler.bench.placing import CONNECTIONS, fleet_of, refill
from scheduler.bench.stage import P, Plan, Stage, staged
from scheduler.dev.process import stop

EACH, COUNTS = 8, (1, 2, 4, 8)
# of the load process, before and after what is counted
SETTLED_S = 0.5


def _cpu_s(pids: Sequence[int]) -> float:
    spent = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(times.user + times.system for times in spent)


def _ports(stage: Stage, plan: Plan, count: int) -> list[int]:
    """So many replicas and no others, with the fleet in sight."""
    stop(stage.children)
    stage.children.clear()
    urls = stage.replicas(count)
    refill(stage, fleet_of(plan), urls)
    return [int(url.rpartition(":")[2]) for url in urls]


def _measured(stage: Stage, plan: Plan, count: int, rate: float) -> tuple[float, float]:
    """Microseconds of CPU for a placement, and for one replica's being there in a second of idleness."""
    ports = _ports(stage, plan, count)
    replicas = [child.pid for child in stage.children]
    idle = _cpu_s(replicas)
    time.sleep(plan.seconds)
    idle = (_cpu_s(replicas) - idle) / plan.seconds / count
    load = Load(ports=ports, connections=EACH, seconds=plan.seconds + 3 * SETTLED_S, rate=rate)
    # each placement is a lease here, and nothing ends: so they are counted at the same two instants as the CPU
    before = stage.client.zcard(f"{P}:leases")
    process = start(load)
    while stage.client.zcard(f"{P}:leases") == before and process.poll() is None:
        time.sleep(0.01)
    time.sleep(SETTLED_S)
    pids = [*replicas, stage.server.pid]
    leases, spent = stage.client.zcard(f"{P}:leases"), _cpu_s(pids)
    time.sleep(plan.seconds)
    spent, leases = _cpu_s(pids) - spent, stage.client.zcard(f"{P}:leases") - leases
    seen(process, load)
    return spent / leases * 1e6, idle * 1e6


def run(plan: Plan) -> Iterator[Figure]:
    with staged(plan) as stage:
        ports = _ports(stage, plan, 1)
        alone = placed(Load(ports=ports, connections=CONNECTIONS, seconds=plan.seconds))
        rate = len(alone.all()) / alone.seconds / 10
        each: dict[int, list[float]] = {count: [] for count in COUNTS}
        idle: list[float] = []
        for turn in range(plan.pairs):
            for count in COUNTS if turn % 2 else reversed(COUNTS):
                cost, rest = _measured(stage, plan, count, rate)
                each[count].append(cost)
                idle.append(rest)
    typical = {count: statistics.median(costs) for count, costs in each.items()}
    yield Figure(
        row="i",
        what=f"CPU of a placement with {', '.join(map(str, COUNTS))} replicas, equally loaded: dearest ÷ cheapest",
        unit="x",
        value=max(typical.values()) / min(typical.values()),
        at_most=1.15,
        samples=[max(costs) / min(costs) for costs in zip(*each.values(), strict=True)],
        detail={
            **{f"µs with {count}": cost for count, cost in typical.items()},
            "of these idle": statistics.median(idle) / rate,
            "placements/s each": rate,
        },
    )
