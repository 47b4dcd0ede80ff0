"""Row h: latency at half of saturation, beside one bare claim at the same rate; both in processes of their own."""

import statistics
from collections.abc import Iterator

from scheduler.bench.figures import Figure, paired
from scheduler.bench.load import Load, percentile, placed
from scheduler.bench.over_http import CONNECTIONS, fleet_of, refill
from scheduler.bench.stage import Plan, staged


def run(plan: Plan) -> Iterator[Figure]:
    with staged(plan) as stage:
        (url,) = stage.replicas()
        port, nodes = int(url.rpartition(":")[2]), fleet_of(plan)
        refill(stage, nodes, [url])

        def saturation() -> float:
            saw = placed(Load(ports=[port], connections=CONNECTIONS, seconds=plan.seconds))
            return len(saw.all()) / saw.seconds

        # the first is for warming up
        saturated = statistics.median([saturation() for _ in range(4)][1:])
        tails: list[float] = []
        raw_tails: list[float] = []

        def half(measured: list[float], at: int, *, redis: bool) -> float:
            """The median in milliseconds; the 99th percentile goes into `measured`."""
            refill(stage, nodes, [url])
            load = Load(ports=[at], connections=CONNECTIONS, seconds=plan.seconds, rate=saturated / 2, redis=redis)
            took = placed(load).all()
            measured.append(percentile(took, 0.99) / 1000)
            return percentile(took, 0.5) / 1000

        ratio = paired(
            lambda: half(tails, port, redis=False),
            lambda: half(raw_tails, stage.server.port, redis=True),
            plan.pairs,
        )
        yield Figure(
            row="h",
            what="p50 of POST /v1/jobs at half of saturation ÷ p50 of a bare FCALL",
            unit="x",
            value=ratio.value,
            at_most=2,
            samples=ratio.samples,
            detail={"ms": ratio.subject, "FCALL ms": ratio.baseline, "requests/s": saturated / 2},
        )
        # the first of each was for warming up
        yield Figure(
            row="h",
            what="p99 of POST /v1/jobs at half of saturation",
            unit="ms",
            value=statistics.median(tails[1:]),
            at_most=5,
            samples=tails[1:],
            detail={"FCALL ms": statistics.median(raw_tails[1:])},
        )
