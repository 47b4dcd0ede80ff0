"""The rules that keep a node from a job, cheapest first, each with its reason.

The shape's rules hold for all nodes that offer the same in the same pools and are applied when a demand is compiled;
the node's rules change with every heartbeat. lua/shared/ decides by the same rules on the true state.
"""

from collections.abc import Collection
from dataclasses import dataclass

from scheduler.domain.demand import Demand
from scheduler.domain.ids import NodeId, PoolName
from scheduler.domain.node import Node, Shape
from scheduler.domain.reason import Reason


@dataclass(frozen=True, slots=True)
class Wanted:
    """A demand with the pools it may use, best first."""

    demand: Demand
    order: tuple[PoolName, ...]


def is_in_pool(wanted: Wanted, shape: Shape) -> Reason | None:
    return None if not shape.pools.isdisjoint(wanted.order) else Reason.NOT_IN_POOL


def has_capabilities(wanted: Wanted, shape: Shape) -> Reason | None:
    fits = any(tokens <= shape.offered for tokens in wanted.demand.any_of)
    return None if fits else Reason.MISSING_CAPABILITY


def is_ready(node: Node) -> Reason | None:
    return None if node.state == "ready" else Reason(node.state)


def is_not_quarantined(node: Node) -> Reason | None:
    return Reason.QUARANTINED if node.quarantined else None


def is_under_its_limits(node: Node) -> Reason | None:
    return Reason.OVERLOADED if node.over else None


def has_free_slot(node: Node) -> Reason | None:
    return Reason.FULL if node.used >= node.slots else None


SHAPE_FILTERS = (is_in_pool, has_capabilities)
NODE_FILTERS = (is_ready, is_not_quarantined, is_under_its_limits, has_free_slot)


def shape_obstacle(wanted: Wanted, shape: Shape) -> Reason | None:
    """Why no node of this shape can take the job, or None."""
    return next((reason for rule in SHAPE_FILTERS if (reason := rule(wanted, shape))), None)


def node_obstacle(node: Node, exclude: Collection[NodeId] = ()) -> Reason | None:
    """Why this node, whose shape fits, cannot take the job now, or None."""
    if node.id in exclude:
        return Reason.EXCLUDED
    return next((reason for rule in NODE_FILTERS if (reason := rule(node))), None)
