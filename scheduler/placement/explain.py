"""Why a demand is placed or not, from a snapshot: the same filters as the choice, all of them for every node."""

from scheduler.domain.demand import Demand
from scheduler.domain.explanation import Explanation, NodeVerdict, denied, explained
from scheduler.domain.ids import NodeId
from scheduler.domain.reason import Reason
from scheduler.placement.eligible import wanted_by
from scheduler.placement.filters import conditions
from scheduler.placement.snapshot import Snapshot


def explain(snapshot: Snapshot, demand: Demand, exclude: frozenset[NodeId], *, full: bool = False) -> Explanation:
    """A verdict for each node of the tenant's pools, by id; costs a few steps for each of them.

    full: the tenant has all the leases that it may have, which keeps every node from it.
    """
    wanted = wanted_by(snapshot, demand)
    if demand.pool is not None and not wanted.order:
        return denied(demand.pool)
    verdicts: list[NodeVerdict] = []
    for node_id in snapshot.ids:
        node = snapshot.node(snapshot.positions[node_id])
        if wanted.sees(node.shape):
            pools = tuple(pool for pool in wanted.order if pool in node.shape.pools)
            found = (*conditions(wanted, node, exclude), *([Reason.QUOTA] if full else []))
            verdicts.append(NodeVerdict(node_id, pools, found))
    return explained(wanted.order, verdicts)
