"""The discrete events of one simulation: jobs come and go, nodes heartbeat, replicas refresh."""

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from scheduler.sim.outcome import Outcome, Tally
from scheduler.sim.plan import SimPlan
from scheduler.sim.policies import POLICIES
from scheduler.sim.tries import Answer, Replica, Tries
from scheduler.sim.truth import Truth
from scheduler.sim.work import bursts, running_ms

_PROGRESS = 500


@dataclass(slots=True)
class _Wave:
    """A burst under way: how many of its jobs are undecided, and where the others went."""

    open: int
    placed: Counter[int]


@dataclass(slots=True)
class _Job:
    service_ms: float
    tries: Tries
    counted: bool
    wave: _Wave
    trips: int = 0


class Simulation:
    """One policy under one plan. Deterministic: the same plan gives the same outcome.

    With another number for `draws` the same jobs meet other draws of the policy: the distance is the noise.
    """

    def __init__(
        self, plan: SimPlan, policy: str, progress: Callable[[int], None] = lambda _: None, draws: int = 0
    ) -> None:
        self._plan = plan
        self._name = policy
        self._policy = POLICIES[policy]
        self._progress = progress
        self._rng = plan.stream(f"policy {draws}")
        self._truth = Truth(plan.node_slots(), plan.stream("truth"))
        self._replicas: list[Replica] = []
        self._events: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._order = 0
        self._now = 0.0
        self._undecided = 0
        self._decided = 0
        self._tally = Tally()
        self._work = bursts(plan, self._truth.total)
        self._exhausted = False

    def run(self) -> Outcome:
        plan = self._plan
        if not plan.trace and plan.arrivals == "poisson":
            self._fill()
        self._replicas = self._policy.opened(plan, self._truth, self._rng)
        if self._policy.refreshes:
            for replica in self._replicas:
                self._at(self._rng.random() * plan.refresh_ms, self._refresh, replica)
            turns = list(range(plan.nodes))
            self._rng.shuffle(turns)
            self._at(0, self._heartbeat, (turns, 0))
        if plan.trace or plan.arrivals == "poisson":
            self._at(plan.warm_up_ms, self._measure, None)
        self._next()
        while self._events and (self._undecided or not self._exhausted):
            self._now, _, happen, what = heapq.heappop(self._events)
            happen(what)
        return self._outcome()

    def _at(self, at_ms: float, happen: Callable[[Any], None], what: object) -> None:
        # of events at one instant the first that was planned is the first to happen
        self._order += 1
        heapq.heappush(self._events, (at_ms, self._order, happen, what))

    def _fill(self) -> None:
        """Begin under load: each job that already runs stands on the better of two nodes, as if placed there."""
        rng, truth = self._plan.stream("fill"), self._truth
        count = len(truth.slots)
        for rest_ms in running_ms(self._plan, truth.total):
            node = min(rng.randrange(count), rng.randrange(count), key=truth.load.__getitem__)
            if truth.load[node] == 1:
                node = truth.look() or node
            if truth.load[node] < 1:
                truth.take(node)
                self._at(rest_ms, truth.give, node)

    def _next(self) -> None:
        burst = next(self._work, None)
        self._exhausted = burst is None
        if burst is not None:
            self._at(burst[0], self._arrive, burst[1])

    def _arrive(self, services: list[float]) -> None:
        wave, counted = _Wave(len(services), Counter()), self._now >= self._plan.warm_up_ms
        for service_ms in services:
            # a load balancer sends each to any replica
            replica = self._replicas[int(self._rng.random() * len(self._replicas))]
            job = _Job(service_ms, replica.tries(self._rng), counted, wave)
            self._undecided += 1
            self._send(job, next(job.tries, None))
        self._next()

    def _send(self, job: _Job, shortlist: Sequence[int] | None) -> None:
        """Half a round trip away it is compared with the truth; None: there is nothing more to try."""
        if shortlist is None:
            self._close(job, None)
        else:
            self._at(self._now + self._plan.rtt_ms / 2, self._decide, (job, shortlist))

    def _decide(self, what: tuple[_Job, Sequence[int]]) -> None:
        """As the function in Redis: the least loaded of the shortlist, else what the policy's look finds."""
        job, shortlist = what
        truth = self._truth
        load, used = truth.load, truth.used
        used_before = [-1 if load[node] == 1 else used[node] for node in shortlist]
        # min keeps the first of equals, and shortlists are drawn in random order
        taken = min((node for node in shortlist if load[node] < 1), key=load.__getitem__, default=None)
        job.trips += 1
        if taken is None:
            if job.counted and job.trips == 1 and shortlist and truth.has_free:
                self._tally.conflicts += 1
            if self._policy.look is not None:
                taken = self._policy.look(truth)
        if taken is not None:
            truth.take(taken)
            self._at(self._now + job.service_ms, truth.give, taken)
            self._close(job, taken)
        answer = Answer(used_before, taken)
        self._at(self._now + self._plan.rtt_ms / 2, self._learn, (job, answer, truth.has_free))

    def _learn(self, what: tuple[_Job, Answer, bool]) -> None:
        job, answer, had_free = what
        try:
            shortlist: Sequence[int] | None = job.tries.send(answer)
        except StopIteration:
            shortlist = None
        if answer.taken is None:
            if shortlist is None and job.counted:
                self._tally.in_vain += had_free
            self._send(job, shortlist)

    def _close(self, job: _Job, node: int | None) -> None:
        self._undecided -= 1
        self._decided += 1
        if self._decided % _PROGRESS == 0:
            self._progress(self._decided)
        wave = job.wave
        wave.open -= 1
        if node is not None:
            wave.placed[node] += 1
        if job.counted:
            if node is None:
                self._tally.refused += 1
            else:
                self._tally.trips[job.trips] += 1
            if not wave.open and self._plan.arrivals == "bursts" and wave.placed:
                slots, placed = self._truth.slots, wave.placed
                hottest = max(count / slots[at] for at, count in placed.items())
                self._tally.heat.append(hottest * self._truth.total / placed.total())

    def _refresh(self, replica: Replica) -> None:
        replica.refresh(self._truth)
        self._at(self._now + self._plan.refresh_ms * self._rng.uniform(0.8, 1.2), self._refresh, replica)

    def _heartbeat(self, what: tuple[list[int], int]) -> None:
        """Nodes heartbeat one after the other, in an order that is theirs for the whole run."""
        turns, turn = what
        self._truth.heartbeat(turns[turn])
        following = (turns, (turn + 1) % len(turns))
        self._at(self._now + self._plan.heartbeat_ms / len(turns), self._heartbeat, following)

    def _measure(self, _: None) -> None:
        truth = self._truth
        if truth.busy:
            self._tally.heat.append(max(truth.load) * truth.total / truth.busy)
        self._at(self._now + self._plan.service_ms / 4, self._measure, None)

    def _outcome(self) -> Outcome:
        tally, plan = self._tally, self._plan
        halfway, late = tally.waited(0.5), tally.waited(0.99)
        return Outcome(
            policy=self._name,
            nodes=plan.nodes,
            replicas=plan.replicas,
            refresh_ms=plan.refresh_ms,
            d=plan.d,
            requests=tally.requests,
            placed=tally.placed,
            refused=tally.refused,
            refused_in_vain=tally.in_vain,
            conflicts_percent=100 * tally.conflicts / tally.requests if tally.requests else 0.0,
            hottest_to_mean=sum(tally.heat) / len(tally.heat) if tally.heat else None,
            round_trips=tally.mean_trips,
            wait_p50_ms=None if halfway is None else halfway * plan.rtt_ms,
            wait_p99_ms=None if late is None else late * plan.rtt_ms,
        )
