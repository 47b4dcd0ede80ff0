"""Why a demand is placed or not, as told by a snapshot or by Redis: the same words from both."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from scheduler.domain.ids import NodeId, PoolName
from scheduler.domain.reason import Reason

Class = Literal["placeable", "quota", "overloaded", "unavailable", "impossible", "denied"]

# How near each reason is to being mended, nearest first; lua/shared/explaining.lua has the same order.
_NEARNESS = {
    reason: place
    for place, reason in enumerate(
        (
            Reason.QUOTA,
            Reason.FULL,
            Reason.OVERLOADED,
            Reason.QUARANTINED,
            Reason.CORDONED,
            Reason.DRAINING,
            Reason.LOST,
            Reason.EXCLUDED,
            Reason.MISSING_CAPABILITY,
            Reason.NOT_IN_POOL,
            Reason.TENANT_DENIED,
        )
    )
}
_NOT_OFFERED = frozenset({Reason.MISSING_CAPABILITY, Reason.NOT_IN_POOL, Reason.TENANT_DENIED})
_BUSY = frozenset({Reason.QUOTA, Reason.FULL, Reason.OVERLOADED})


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """One node, its pools among those of the request, best first, and every condition that keeps it away, in order.

    A condition is a reason with what is missing or over its limit behind it: "missing_capability tts:en".
    """

    node: NodeId
    pools: tuple[PoolName, ...]
    conditions: tuple[str, ...]

    @property
    def reason(self) -> Reason | None:
        """The first reason, under which the node is counted; None where it could take the job."""
        return Reason(self.conditions[0].partition(" ")[0]) if self.conditions else None

    def distance(self) -> tuple[int, int, str]:
        """Orders nodes by how near they are: fewest conditions (each missing token is one), the mildest, the id."""
        missing = f"{Reason.MISSING_CAPABILITY} "
        conditions = sum(c.count(" ") if c.startswith(missing) else 1 for c in self.conditions)
        return conditions, _NEARNESS[self.reason] if self.reason else -1, self.node


@dataclass(frozen=True, slots=True)
class PoolVerdict:
    """One pool of the request's order: what it would answer alone."""

    pool: PoolName
    class_: Class
    eligible: int
    reasons: dict[Reason, int]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The class of a demand, its pools in order, and the nodes that were looked at."""

    class_: Class
    reasons: dict[Reason, int]
    pools: tuple[PoolVerdict, ...]
    nodes: tuple[NodeVerdict, ...]
    near_miss: NodeVerdict | None


def class_of(eligible: int, reasons: Collection[Reason], *, full: bool = False) -> Class:
    """Placeable, or which refusal it would be where these reasons keep every node away; full: from this tenant."""
    if eligible:
        return "placeable"
    if _NOT_OFFERED.issuperset(reasons):
        return "impossible"
    if full:
        return "quota"
    return "unavailable" if _BUSY.isdisjoint(reasons) else "overloaded"


def _verdict(pool: PoolName, nodes: Sequence[NodeVerdict]) -> PoolVerdict:
    counts = Counter(node.reason for node in nodes)
    reasons = {reason: count for reason, count in counts.items() if reason is not None}
    full = any(Reason.QUOTA in node.conditions for node in nodes)
    return PoolVerdict(pool, class_of(counts[None], reasons, full=full), counts[None], reasons)


def explained(order: Iterable[PoolName], nodes: Iterable[NodeVerdict]) -> Explanation:
    """What the verdicts add up to; a node that is told of twice (it moved meanwhile) counts as it was told last."""
    told = {node.node: node for node in nodes}.values()
    whole = _verdict(PoolName(""), tuple(told))
    pools = tuple(_verdict(pool, [node for node in told if pool in node.pools]) for pool in order)
    near_miss = min((node for node in told if node.conditions), key=NodeVerdict.distance, default=None)
    return Explanation(whole.class_, whole.reasons, pools, tuple(told), near_miss)


def merged(parts: Sequence[Explanation]) -> Explanation:
    """One explanation of several shards, which know the same pools and other nodes."""
    told = [part for part in parts if part.class_ != "denied"] or parts[:1]
    if len(told) == 1:
        return told[0]
    order = dict.fromkeys(pool.pool for part in told for pool in part.pools)
    nodes = sorted((node for part in told for node in part.nodes), key=lambda verdict: verdict.node)
    return explained(order, nodes)


def denied(pool: PoolName) -> Explanation:
    """What a tenant is told of a pool that does not serve it, or that does not exist."""
    return Explanation("denied", {}, (PoolVerdict(pool, "denied", 0, {}),), (), None)
