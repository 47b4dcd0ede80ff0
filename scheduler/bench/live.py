"""Real replicas on a real server under the work of a simulation's plan, so that the two can be set side by side."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from scheduler.bench.stage import HOUR_MS, P, Stage
from scheduler.domain.demand import demand_from_tokens
from scheduler.domain.ids import JobId, NodeId, Tenant
from scheduler.domain.job import Affinity, JobRequest
from scheduler.domain.job import Placement as Placed
from scheduler.engine.dispatch import Placement
from scheduler.engine.engine import Engine
from scheduler.settings import Settings
from scheduler.sim.plan import SimPlan
from scheduler.sim.work import bursts, running_ms
from scheduler.store.client import connect
from scheduler.store.functions import Functions

_DEMAND = demand_from_tokens(["gpu"], Tenant("default"))
# A beat of the bench: so often some of the nodes heartbeat.
_TICK_MS = 50
_AT_ONCE = 128


@dataclass
class Seen:
    """What the claims of one run were told; `waits_ms`: how long after its instant each was answered.

    `judged` is what a judge inside the library counted, if it has one.
    """

    placed: int = 0
    refused: int = 0
    conflicts: int = 0
    waits_ms: list[float] = field(default_factory=list)
    ages_ms: list[int] = field(default_factory=list)
    judged: dict[bytes, bytes] = field(default_factory=dict)
    nodes: Counter[NodeId] = field(default_factory=Counter)

    @property
    def late_ms(self) -> float:
        """The 99th percentile of the waits."""
        return sorted(self.waits_ms)[len(self.waits_ms) * 99 // 100]


class Live:
    """A fleet of simulated nodes, and as many engines in this process as the plan has replicas."""

    def __init__(self, plan: SimPlan, engines: list[Engine], functions: Functions) -> None:
        self.plan = plan
        self._engines = engines
        self._functions = functions
        self._nodes: dict[NodeId, int] = {}
        self._rng = plan.stream("bench")
        self._ids = itertools.count()
        self.ends: set[asyncio.Task[None]] = set()

    async def register(self) -> None:
        for i, slots in enumerate(self.plan.node_slots()):
            node = NodeId(f"n{i}")
            more = {"ttl_ms": HOUR_MS}
            known = await self._functions.node_register(
                node, endpoint="http://n", slots=slots, capabilities=["gpu"], **more
            )
            self._nodes[node] = known.incarnation
        while any(engine.obstacle() for engine in self._engines):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.05)
        await self.refresh()

    async def refresh(self) -> None:
        await asyncio.gather(*(engine.first.mirror.refresh() for engine in self._engines))

    async def heartbeat(self, nodes: Sequence[NodeId]) -> None:
        await asyncio.gather(*(self._functions.node_heartbeat(node, self._nodes[node]) for node in nodes))

    async def heartbeat_for_ever(self) -> None:
        """Each node once in heartbeat_ms, spread over that time."""
        turns, started, done = itertools.cycle(list(self._nodes)), time.monotonic(), 0
        while True:
            await asyncio.sleep(_TICK_MS / 1000)
            due = int((time.monotonic() - started) * 1000 * len(self._nodes) / self.plan.heartbeat_ms)
            await self.heartbeat(list(itertools.islice(turns, due - done)))
            done = due

    async def place(self, seen: Seen, session: str | None = None) -> Placement | None:
        """One claim by any replica."""
        engine = self._rng.choice(self._engines)
        affinity: Affinity = "sticky" if session else "none"
        job = JobId(f"0.{next(self._ids)}")
        request = JobRequest(job, "-", _DEMAND, session, affinity, deliver="direct", ack_ms=HOUR_MS)
        verdict = await engine.place(request)
        seen.ages_ms.append(engine.first.mirror.age_ms)
        if not isinstance(verdict, Placement):
            seen.refused += 1
            return None
        seen.placed += 1
        seen.conflicts += verdict.conflict
        seen.nodes[verdict.placed.placement.node] += 1
        return verdict

    def end(self, placed: Placement | None, at: float) -> None:
        """Finish the job at this instant of the monotonic clock, or now if that is over."""
        if placed is not None:
            end = asyncio.create_task(self._end(placed.placed.placement, at))
            self.ends.add(end)
            end.add_done_callback(self.ends.discard)

    async def _end(self, placement: Placed, at: float) -> None:
        await asyncio.sleep(at - time.monotonic())
        await self._functions.job_finish(placement.job, placement.fence, "succeeded")

    async def serve(self, due: float, service_ms: float, seen: Seen) -> None:
        """A claim's wait is part of its service, else a busy machine would raise the load."""
        self.end(await self.place(seen), due + service_ms / 1000)
        seen.waits_ms.append((time.monotonic() - due) * 1000)

    async def run(self) -> Seen:
        """The plan's work from its first job to its last; what comes while it warms up is not counted."""
        plan, seen, aside = self.plan, Seen(), Seen()
        total = sum(plan.node_slots())
        running = running_ms(plan, total)
        placed: list[Placement | None] = []
        for start in range(0, len(running), _AT_ONCE):
            batch = running[start : start + _AT_ONCE]
            placed += await asyncio.gather(*(self.place(aside) for _ in batch))
        beating = asyncio.create_task(self.heartbeat_for_ever())
        started = time.monotonic()
        for placement, rest_ms in zip(placed, running, strict=True):
            self.end(placement, started + rest_ms / 1000)
        claims: list[asyncio.Task[None]] = []
        for at_ms, services in bursts(plan, total):
            due = started + at_ms / 1000
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            counted = seen if at_ms >= plan.warm_up_ms else aside
            claims += [asyncio.create_task(self.serve(due, ms, counted)) for ms in services]
        await asyncio.gather(*claims)
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        seen.waits_ms += aside.waits_ms
        return seen

    async def burst(self, count: int) -> Seen:
        """So many sessions at one instant; they end once all are placed, and every snapshot is told of that."""
        seen = Seen()
        names = [f"session-{next(self._ids)}" for _ in range(count)]
        for placed in await asyncio.gather(*(self.place(seen, name) for name in names)):
            self.end(placed, 0)
        await self.stop()
        await self.heartbeat(list(self._nodes))
        await self.refresh()
        return seen

    async def stop(self) -> None:
        """Wait until all jobs are finished."""
        await asyncio.gather(*self.ends)


@asynccontextmanager
async def live(stage: Stage, plan: SimPlan) -> AsyncIterator[Live]:
    """A fleet as planned, known to all replicas; gone afterwards."""
    stage.clear()
    settings = Settings(
        redis_url=stage.server.url,
        refresh_ms=plan.refresh_ms,
        candidates=plan.d,
        redis_connections=4,
        # where the machine stands still, claims are late; they do not fail
        deadline_ms=20_000,
        redis_timeout_ms=10_000,
    )
    engines = [Engine(settings) for _ in range(plan.replicas)]
    client = connect(stage.server.url, timeout_ms=10_000)
    running = Live(plan, engines, Functions(client, P))
    try:
        for engine in engines:
            await engine.start()
        await running.register()
        yield running
    finally:
        for end in running.ends:
            end.cancel()
        for engine in engines:
            await engine.stop()
        await client.aclose()
