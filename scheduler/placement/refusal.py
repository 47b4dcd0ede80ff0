"""Why nothing was placed: counts for each reason, and the class of the refusal, as the snapshot knows them."""

from collections import Counter
from dataclasses import dataclass

from scheduler.domain.ids import NodeId
from scheduler.domain.reason import Reason, RefusalClass
from scheduler.placement.eligible import Eligible
from scheduler.placement.filters import node_obstacle, shape_obstacle
from scheduler.placement.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Breakdown:
    """How many nodes each reason kept away; a node that looks free here counts nowhere but in `free`."""

    refusal: RefusalClass
    reasons: dict[Reason, int]
    free: int


def breakdown(snapshot: Snapshot, eligible: Eligible, exclude: frozenset[NodeId]) -> Breakdown:
    """Count every node of the tenant's pools once, under the first rule that it fails.

    Costs a step for each eligible node. Nodes of other tenants' pools are nobody's business here.
    """
    reasons: Counter[Reason] = Counter()
    free = 0
    for shape, positions in snapshot.members.items():
        if not eligible.wanted.sees(shape):
            continue
        if reason := shape_obstacle(eligible.wanted, shape):
            reasons[reason] += len(positions)
    refusal = RefusalClass.UNAVAILABLE if eligible.tiers else RefusalClass.IMPOSSIBLE
    for tier in eligible.tiers:
        for position in tier.positions:
            obstacle = node_obstacle(snapshot.node(position), exclude)
            if obstacle is None:
                free += 1
            else:
                reasons[obstacle] += 1
            if obstacle in {None, Reason.FULL, Reason.OVERLOADED}:
                refusal = RefusalClass.OVERLOADED
    return Breakdown(refusal, dict(reasons), free)
