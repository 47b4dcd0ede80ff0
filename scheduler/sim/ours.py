"""This project's own placement in a simulation: the code that replicas run, on snapshots that grow as theirs do."""

import random
from dataclasses import replace

from scheduler.domain.demand import Demand, demand_from_tokens
from scheduler.domain.ids import NodeId, PoolName, Tenant
from scheduler.domain.node import Node, Shape, offered_by
from scheduler.placement.correct import correct
from scheduler.placement.eligible import Compiled
from scheduler.placement.select import select
from scheduler.placement.snapshot import Snapshot, updated
from scheduler.sim.plan import SimPlan
from scheduler.sim.tries import Replica, Tries
from scheduler.sim.truth import Truth

_SHAPE = Shape(offered_by(["gpu"]), frozenset({PoolName("default")}))


class _Nodes:
    """The nodes as a mirror page shows them; replicas that read the same load share the value."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._names = [NodeId(f"n{i}") for i in range(len(truth.slots))]
        self._last = [self._new(i) for i in range(len(truth.slots))]

    def _new(self, i: int) -> Node:
        return Node(self._names[i], _SHAPE, "1", "ready", self._truth.slots[i], self._truth.used[i], "", False)

    def __getitem__(self, i: int) -> Node:
        if self._last[i].used != self._truth.used[i]:
            self._last[i] = self._new(i)
        return self._last[i]

    def all(self) -> list[Node]:
        return [self[i] for i in range(len(self._names))]


class Ours:
    """One replica. Structure never changes here, so all replicas share positions and compiled demands."""

    def __init__(self, snapshot: Snapshot, nodes: _Nodes, compiled: Compiled, demand: Demand, d: int) -> None:
        self._snapshot = snapshot
        self._nodes = nodes
        self._compiled = compiled
        self._demand = demand
        self._d = d

    def refresh(self, truth: Truth) -> None:
        changed = [self._nodes[i] for i in truth.changed_since(self._snapshot.version)]
        self._snapshot = replace(updated(self._snapshot, changed, []), version=truth.version)

    def tries(self, rng: random.Random) -> Tries:
        """One shortlist; where it fails the look follows in the same round trip, and only then a refusal."""
        shown = self._snapshot
        eligible = self._compiled.get(shown, self._demand)
        positions = select(shown, eligible, self._d, frozenset(), rng).positions
        answer = yield positions
        taken = None if answer.taken is None else shown.node(answer.taken).id
        correct(shown, self._snapshot, positions, answer.used, taken)


def open_ours(plan: SimPlan, truth: Truth, rng: random.Random) -> list[Replica]:  # noqa: ARG001 - all openers take these
    nodes, compiled, demand = _Nodes(truth), Compiled(), demand_from_tokens(["gpu"], Tenant("default"))
    first = updated(Snapshot(epoch="simulated", structure_version=1), nodes.all(), [])
    return [
        Ours(replace(first, version=truth.version, free=first.free[:]), nodes, compiled, demand, plan.d)
        for _ in range(plan.replicas)
    ]
