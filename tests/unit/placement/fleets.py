"""Small fleets for the tests of placement."""

from scheduler.domain.demand import Demand, demand_from_tokens
from scheduler.domain.ids import NodeId, PoolName, Tenant
from scheduler.domain.node import Node, NodeState, Shape, offered_by
from scheduler.placement.snapshot import Snapshot, updated

TENANT = Tenant("default")


def node(
    name: str,
    tokens: str = "gpu",
    *,
    state: NodeState = "ready",
    slots: int = 4,
    used: int = 0,
    over: str = "",
    quarantined: bool = False,
    pools: str = "default",
) -> Node:
    shape = Shape(offered_by(tokens.split()), frozenset(map(PoolName, pools.split())))
    return Node(NodeId(name), shape, "1", state, slots, used, over, quarantined)


def fleet(*nodes: Node) -> Snapshot:
    return updated(Snapshot(epoch="e", structure_version=1), nodes, [])


def demand(*tokens: str, pool: str | None = None) -> Demand:
    return demand_from_tokens(tokens, TENANT, None if pool is None else PoolName(pool))
