"""Row k: for a minute three times as many requests as a replica can place: what it answers, how late, in what memory.

Saturation is measured with the same client. The offer is an open loop over thousands of connections, so it does not
yield to a replica that becomes slow; what finds no free connection within a second is counted as unsent.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from scheduler.bench.figures import Figure
from scheduler.bench.load import Load, percentile, placed, seen, start
from scheduler.bench.over_http import CONNECTIONS, fleet_of, refill
from scheduler.bench.stage import Plan, Stage, staged
from scheduler.bench.targets import Seen

SECONDS, TIMES, PROCESSES, CONNECTIONS_EACH = 60.0, 3, 2, 1_000
# by then all clients have all their connections
CONNECTED_S = 6.0
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Overload:
    """What each client saw, and the replica's memory: before, with all connections, after a third, at the end."""

    saturation: float
    clients: list[Seen]
    rss_mib: list[float]


def offered(stage: Stage, plan: Plan, seconds: float) -> Overload:
    (url,) = stage.replicas()
    port, replica = int(url.rpartition(":")[2]), psutil.Process(stage.children[-1].pid)
    refill(stage, fleet_of(plan), [url])
    for _ in range(2):
        saw = placed(Load(ports=[port], connections=CONNECTIONS, seconds=plan.seconds))
    saturation = len(saw.all()) / saw.seconds
    refill(stage, fleet_of(plan), [url])
    begin_at, rate = time.monotonic() + CONNECTED_S, saturation * TIMES / PROCESSES
    load = Load(ports=[port], connections=CONNECTIONS_EACH, seconds=seconds, rate=rate, begin_at=begin_at)
    rss = [replica.memory_info().rss / MIB]
    clients = [start(load) for _ in range(PROCESSES)]
    for at in (0, seconds / 3, seconds):
        time.sleep(max(begin_at + at - time.monotonic(), 0))
        rss.append(replica.memory_info().rss / MIB)
    return Overload(saturation, [seen(client, load) for client in clients], rss)


def figures(found: Overload) -> Iterator[Figure]:
    by_status: dict[int, list[int]] = {}
    for client in found.clients:
        for status, took in client.latencies.items():
            by_status.setdefault(status, []).extend(took)
    counts = {status: len(took) for status, took in sorted(by_status.items())}
    placed_count = counts.get(201, 0)
    failed = sum(client.broken + client.unanswered for client in found.clients)
    good = placed_count + counts.get(503, 0) - sum(client.without_retry_after for client in found.clients)
    sent = sum(counts.values()) + failed
    yield Figure(
        row="k",
        what=f"at {TIMES} times saturation: answered 201, or 503 with Retry-After, of all that was sent",
        unit="",
        value=good / max(sent, 1),
        at_least=1,
        detail={
            **{str(status): count for status, count in counts.items()},
            "others and failures": sent - good,
            "unsent": sum(client.unsent for client in found.clients),
            "saturation/s": found.saturation,
            "placed/s": placed_count / found.clients[0].seconds,
        },
    )
    took = [us for some in by_status.values() for us in some]
    yield Figure(
        row="k",
        what="p99 of all answers; its bound is the deadline of a placement",
        unit="ms",
        value=percentile(took, 0.99) / 1000,
        at_most=1_000,
        detail={"p50": percentile(took, 0.5) / 1000}
        | {f"p99 of {status}": percentile(by_status[status], 0.99) / 1000 for status in counts},
    )
    names = ("MiB before", "with all connections", "after a third", "at the end")
    yield Figure(
        row="k",
        what="memory of the replica at the end ÷ after a third",
        unit="x",
        value=found.rss_mib[3] / found.rss_mib[2],
        at_most=1.05,
        detail=dict(zip(names, found.rss_mib, strict=True)),
    )


def run(plan: Plan, seconds: float = SECONDS) -> Iterator[Figure]:
    with staged(plan) as stage:
        found = offered(stage, plan, 3.0 if plan.quick else seconds)
    yield from figures(found)
