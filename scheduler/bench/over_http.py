"""Rows a and b: placements a second over HTTP, beside a bare route and beside one call to Redis a request."""

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec

from scheduler.bench.figures import Figure, Ratio, paired
from scheduler.bench.stage import JOB, Plan, Stage, staged
from scheduler.bench.wrk import drive
from scheduler.dev.server import free_port
from scheduler.errors import BenchmarkFailed

CONNECTIONS = 48
BODY = msgspec.json.encode(JOB)


def fleet_of(plan: Plan) -> int:
    return 100 if plan.quick else 1_000


def refill(stage: Stage, nodes: int, urls: list[str], deadline_s: float = 30.0) -> None:
    """An empty server with the fleet on it, and replicas that place by a snapshot of it."""
    stage.clear()
    stage.seed(nodes)
    end = time.monotonic() + deadline_s
    with httpx.Client(timeout=5) as client:
        for url in urls:
            while True:
                answer = client.post(f"{url}/v1/jobs", content=BODY, headers={"content-type": "application/json"})
                facts = answer.json().get("placement", {})
                if answer.status_code == 201 and facts["candidates"] == 3 and not facts["conflict"]:
                    break
                if time.monotonic() > end:
                    raise BenchmarkFailed(f"{url} does not see the fleet: {answer.status_code} {answer.text[:200]}")
                time.sleep(0.05)


def _calls(stage: Stage) -> int:
    stats: Any = stage.client.info("commandstats")
    return int(stats.get("cmdstat_fcall", {}).get("calls", 0))


def _placing(stage: Stage, plan: Plan, url: str, calls: list[float] | None = None) -> Callable[[], float]:
    """Placements a second of one replica; `calls` gets the calls to Redis for each placement."""

    def measure() -> float:
        refill(stage, fleet_of(plan), [url])
        before = _calls(stage)
        run = drive(f"{url}/v1/jobs", BODY, connections=CONNECTIONS, seconds=plan.seconds)
        if calls is not None:
            calls.append((_calls(stage) - before) / sum(run.statuses.values()))
        return run.rate()

    return measure


def _figure(row: str, what: str, at_least: float, ratio: Ratio, **detail: float) -> Figure:
    return Figure(
        row=row, what=what, unit="x", value=ratio.value, at_least=at_least, samples=ratio.samples, detail=detail
    )


def beside_bare(plan: Plan) -> Iterator[Figure]:
    with staged(plan) as stage:
        (url,) = stage.replicas()
        port = free_port()
        bare = stage.spawn([sys.executable, "-m", "scheduler.bench.bare", "--port", str(port)], port)

        def bare_rate() -> float:
            return drive(f"{bare}/v1/jobs", BODY, connections=CONNECTIONS, seconds=plan.seconds).rate()

        ratio = paired(_placing(stage, plan, url), bare_rate, plan.pairs)
        what = f"POST /v1/jobs, {fleet_of(plan):,} nodes, {CONNECTIONS} connections, ÷ a bare Starlette route"
        yield _figure("a", what, 0.5, ratio, **{"placements/s": ratio.subject, "bare/s": ratio.baseline})


def beside_naive(plan: Plan) -> Iterator[Figure]:
    with staged(plan) as stage:
        (url,) = stage.replicas()
        port = free_port()
        argv = [sys.executable, "-m", "scheduler.bench.naive", "--port", str(port), "--redis-url", stage.server.url]
        naive = stage.spawn(argv, port)
        ours: list[float] = []
        theirs: list[float] = []
        ratio = paired(_placing(stage, plan, url, ours), _placing(stage, plan, naive, theirs), plan.pairs)
        if min(theirs) < 1:
            raise BenchmarkFailed(f"the naive variant makes {min(theirs):.2f} calls a placement: it shares them")
        yield _figure(
            "b",
            f"POST /v1/jobs, {fleet_of(plan):,} nodes, {CONNECTIONS} connections, ÷ one call to Redis a request",
            1.4,
            ratio,
            **{"placements/s": ratio.subject, "naive/s": ratio.baseline, "our calls a placement": min(ours)},
        )
