"""The rules that keep a node from a job, cheapest first, each with its reason.

The shape's rules hold for all nodes that offer the same in the same pools and are applied when a demand is compiled;
the node's rules change with every heartbeat. lua/shared/ decides by the same rules on the true state.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from scheduler.domain.demand import Demand
from scheduler.domain.ids import NodeId, PoolName
from scheduler.domain.node import Node, Shape
from scheduler.domain.reason import Reason


@dataclass(frozen=True, slots=True)
class Wanted:
    """A demand with the pools it may use, best first, and all pools that serve its tenant."""

    demand: Demand
    order: tuple[PoolName, ...]
    serving: frozenset[PoolName]

    def sees(self, shape: Shape) -> bool:
        """Whether the tenant may know of nodes of this shape."""
        return not shape.pools.isdisjoint(self.serving)


def is_in_pool(wanted: Wanted, shape: Shape) -> Reason | None:
    if not shape.pools.isdisjoint(wanted.order):
        return None
    return Reason.NOT_IN_POOL if wanted.sees(shape) or not shape.pools else Reason.TENANT_DENIED


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


def conditions(wanted: Wanted, node: Node, exclude: Collection[NodeId]) -> Iterator[str]:
    """Every rule that the node fails, in the order of the rules, with what is missing or over its limit."""
    for shape_rule in SHAPE_FILTERS:
        if reason := shape_rule(wanted, node.shape):
            yield f"{reason} {_missing(wanted, node.shape)}" if reason is Reason.MISSING_CAPABILITY else reason
    if node.id in exclude:
        yield Reason.EXCLUDED
    for rule in NODE_FILTERS:
        if reason := rule(node):
            yield f"{reason} {node.over}" if reason is Reason.OVERLOADED else reason


def _missing(wanted: Wanted, shape: Shape) -> str:
    """What it lacks of the alternative of which it lacks least."""
    least = min((sorted(tokens - shape.offered) for tokens in wanted.demand.any_of), key=len)
    return " ".join(least)
