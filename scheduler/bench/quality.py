"""Row j: how well claims are placed, by real replicas on a real server, and by the simulator under the same plan."""

import asyncio
import statistics
from collections.abc import Iterator
from typing import cast

from scheduler.bench.figures import Figure
from scheduler.bench.live import Live, Seen, live
from scheduler.bench.stage import P, Plan, Stage, staged
from scheduler.errors import NoServer
from scheduler.sim.outcome import Outcome
from scheduler.sim.plan import SimPlan
from scheduler.sim.simulation import Simulation
from scheduler.store.library import read_library

DRAWS = 8
# Of a job length: where more than one in a hundred claims was answered later than this, the machine was measured.
LATE = 0.01
# The judge looks at every node in the step that refuses, and counts in P:judged.
_REFUSES = "  local class = refusal_class(S, claim, order)"
_JUDGE = """
local function judge_refusal(S)
  local free = 0
  for _, id in ipairs(redis.call('ZRANGE', S.P .. ':nodes', 0, -1)) do
    local slots = tonumber(redis.call('HGET', S.P .. ':node:' .. id, 'slots'))
    if redis.call('ZCARD', S.P .. ':node:' .. id .. ':leases') < slots then free = 1 end
  end
  redis.call('HINCRBY', S.P .. ':judged', 'refused', 1)
  redis.call('HINCRBY', S.P .. ':judged', 'in_vain', free)
end
"""
_BEGINS = "local function reply(...) return { ... } end"


def judged_library() -> str:
    """The library with the judge in it."""
    code = read_library().code
    for line, judged in ((_REFUSES, f"{_REFUSES}\n  judge_refusal(S)"), (_BEGINS, _JUDGE + _BEGINS)):
        if code.count(line) != 1:
            raise NoServer(f"the judge does not find this once in the library: {line.strip()}")
        code = code.replace(line, judged)
    return code


def loaded(plan: Plan, load: float, jobs: int) -> SimPlan:
    """Refreshed every 0.4 job lengths, a snapshot is 0.2 of them old on the average."""
    nodes, service_ms = (50, 1_000) if plan.quick else (200, 4_000)
    return SimPlan(
        nodes=nodes,
        slots=(10, 10),
        load=load,
        service_ms=service_ms,
        refresh_ms=int(0.4 * service_ms),
        jobs=1_000 if plan.quick else jobs,
    )


def sessions(plan: Plan) -> SimPlan:
    """Bursts so far apart that each meets an idle fleet."""
    count = 3 if plan.quick else 40
    return SimPlan(
        nodes=22, slots=(20, 20), replicas=16, load=0.005, arrivals="bursts", burst=200, jobs=200 * count, rtt_ms=1
    )


def simulated(plan: SimPlan) -> list[Outcome]:
    """The very jobs that the replicas had, with other draws of candidates: how far these are apart is the noise."""
    return [Simulation(plan, "ours", draws=i).run() for i in range(DRAWS)]


async def _run(stage: Stage, plan: SimPlan) -> Seen:
    async with live(stage, plan) as running:
        seen = await running.run()
    seen.judged = cast("dict[bytes, bytes]", stage.client.hgetall(f"{P}:judged"))
    return seen


def _undisturbed(stage: Stage, plan: SimPlan) -> Seen:
    """A run; another one, twice at most, where the machine stood still again and again, so that jobs piled up."""
    runs: list[Seen] = []
    while not runs or (len(runs) < 3 and runs[-1].late_ms > LATE * plan.service_ms):
        runs.append(asyncio.run(_run(stage, plan)))
    return min(runs, key=lambda seen: seen.late_ms)


async def _bursts(stage: Stage, plan: SimPlan) -> list[float]:
    async with live(stage, plan) as running:
        return [await _hottest(running) for _ in range(plan.jobs // plan.burst)]


async def _hottest(running: Live) -> float:
    seen = await running.burst(running.plan.burst)
    return max(seen.nodes.values()) * running.plan.nodes / seen.placed


def _conflicts(stage: Stage, plan: SimPlan) -> Iterator[Figure]:
    what = f"first-try conflicts at 85 % load, snapshot 0.2 job lengths old; {plan.nodes} nodes of 10 slots"
    seen = _undisturbed(stage, plan)
    yield Figure(
        row="j",
        what=what,
        unit="%",
        value=100 * seen.conflicts / max(seen.placed + seen.refused, 1),
        at_most=0.4,
        detail={
            "claims": seen.placed + seen.refused,
            "conflicts": seen.conflicts,
            "answered, p99 ms": seen.late_ms,
            "age ÷ job length": statistics.fmean(seen.ages_ms) / plan.service_ms,
        },
    )
    samples = [outcome.conflicts_percent for outcome in simulated(plan)]
    yield Figure(
        row="j",
        what=f"the same jobs simulated {DRAWS} times",
        unit="%",
        value=statistics.median(samples),
        samples=samples,
    )


def _imbalance(stage: Stage, plan: SimPlan) -> Iterator[Figure]:
    samples = asyncio.run(_bursts(stage, plan))
    yield Figure(
        row="j",
        what="hottest ÷ mean after 200 simultaneous sessions on 22 nodes, 16 replicas (1.10 is the least possible)",
        unit="x",
        value=statistics.median(samples),
        at_most=1.10,
        samples=samples,
        detail={"mean": statistics.fmean(samples)},
    )
    heats = [outcome.hottest_to_mean or 0 for outcome in simulated(plan)]
    yield Figure(
        row="j",
        what=f"the same simulated {DRAWS} times; means of {len(samples)} bursts",
        unit="x",
        value=statistics.median(heats),
        samples=heats,
    )


def _refusals(stage: Stage, plan: SimPlan) -> Iterator[Figure]:
    stage.client.execute_command("FUNCTION", "LOAD", "REPLACE", judged_library())
    seen = _undisturbed(stage, plan)
    yield Figure(
        row="j",
        what="refusals while an eligible slot was free, at 98 % load, judged in the deciding step",
        unit="",
        value=int(seen.judged.get(b"in_vain", 0)),
        at_most=0,
        detail={
            "claims": seen.placed + seen.refused,
            "refusals judged": int(seen.judged.get(b"refused", 0)),
            "answered, p99 ms": seen.late_ms,
            "refused %": 100 * seen.refused / max(seen.placed + seen.refused, 1),
        },
    )
    outcomes = simulated(plan)
    refused = [100 * outcome.refused / outcome.requests for outcome in outcomes]
    yield Figure(
        row="j",
        what=f"the same jobs simulated {DRAWS} times",
        unit="",
        value=max(outcome.refused_in_vain for outcome in outcomes),
        samples=[outcome.refused_in_vain for outcome in outcomes],
        detail={"refused %": statistics.median(refused)},
    )


def run(plan: Plan) -> Iterator[Figure]:
    with staged(plan) as stage:
        yield from _conflicts(stage, loaded(plan, 0.85, 20_000))
        yield from _imbalance(stage, sessions(plan))
        yield from _refusals(stage, loaded(plan, 0.98, 10_000))
