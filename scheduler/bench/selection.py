"""Row e: the draw of candidates from the snapshot, at 100 nodes and at 100,000."""

import statistics
import time
from collections.abc import Callable, Iterator
from random import Random

from scheduler.bench.figures import Figure, paired
from scheduler.bench.stage import JOB, Plan, capabilities
from scheduler.domain.demand import Demand, demand_from
from scheduler.domain.ids import NodeId, PoolName, Tenant
from scheduler.domain.node import Node, Shape, offered_by
from scheduler.placement.eligible import Compiled
from scheduler.placement.select import select
from scheduler.placement.snapshot import Snapshot, updated

SMALL, LARGE, RACKS, D = 100, 100_000, 300, 3


def unlike(i: int) -> str:
    """What node i of a large fleet offers: ten kinds in 300 racks, that is 300 sets of capabilities."""
    return f"{capabilities(i)} rack:r{i % RACKS}"


def fleet(count: int) -> Snapshot:
    """A snapshot of so many nodes of 4 slots, two thirds of them in use."""
    rng, shapes = Random(count), dict[str, Shape]()
    pools = frozenset([PoolName("default")])
    nodes = []
    for i in range(count):
        offer = unlike(i)
        shape = shapes.setdefault(offer, Shape(offered_by(offer.split()), pools))
        nodes.append(
            Node(NodeId(f"n{i}"), shape, "1", "ready", 4, sum(rng.random() < 0.67 for _ in range(4)), "", False)
        )
    return updated(Snapshot(), nodes, ())


def speech() -> Demand:
    return demand_from(Tenant("default"), services=("asr", "nmt", "tts"), src=str(JOB["src"]), tgt=str(JOB["tgt"]))


def timed(snapshot: Snapshot, seconds: float) -> Callable[[], float]:
    """Measures the mean time of one selection in µs, over about so many seconds."""
    compiled, demand, rng, nobody = Compiled(), speech(), Random(1), frozenset[NodeId]()

    def sample() -> float:
        count, started = 0, time.perf_counter()
        while (spent := time.perf_counter() - started) < seconds:
            for _ in range(1_000):
                select(snapshot, compiled.get(snapshot, demand), D, nobody, rng)
            count += 1_000
        return spent / count * 1e6

    return sample


def run(plan: Plan) -> Iterator[Figure]:
    large, small = fleet(10_000 if plan.quick else LARGE), fleet(SMALL)
    seconds = min(plan.seconds / 3, 1.0)
    ratio = paired(timed(large, seconds), timed(small, seconds), plan.pairs)
    detail = {f"µs at {LARGE:,}": ratio.subject, f"µs at {SMALL}": ratio.baseline}
    yield Figure(
        row="e",
        what="selection at 100,000 nodes ÷ at 100",
        unit="x",
        value=ratio.value,
        at_most=1.5,
        samples=ratio.samples,
        detail=detail,
    )
    rounds = [timed(large, seconds)() for _ in range(plan.pairs)]
    yield Figure(
        row="e",
        what="one selection at 100,000 nodes",
        unit="µs",
        value=statistics.median(rounds),
        at_most=10,
        samples=rounds,
    )
