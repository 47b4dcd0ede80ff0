"""Which nodes a person looks for: a search through the snapshots, which costs Redis nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scheduler.domain.ids import PoolName, Tenant, Token
from scheduler.domain.node import Node
from scheduler.placement.snapshot import Snapshot

# How a node stands, the worst first; a ready node is one that can take a job now.
STANDINGS = ("lost", "draining", "cordoned", "quarantined", "overloaded", "full", "ready")


@dataclass(frozen=True, slots=True)
class Sought:
    """All that is given must hold; `text` is any part of an id."""

    text: str = ""
    pool: str = ""
    capability: str = ""
    standing: str = ""
    tenant: Tenant | None = None


def standing(node: Node) -> str:
    """The one word for how the node stands: what keeps it from taking a job, or ready."""
    if node.state != "ready":
        return node.state
    if node.quarantined:
        return "quarantined"
    if node.over:
        return "overloaded"
    return "ready" if node.used < node.slots else "full"


def trouble(node: Node) -> str:
    """Why somebody should look at the node, or nothing; to be full is no trouble."""
    word = standing(node)
    if word == "overloaded":
        return f"over its limit of {node.over.replace(' ', ' and ')}"
    return "" if word in {"full", "ready"} else word


def find(snapshots: Sequence[Snapshot], sought: Sought) -> list[Node]:
    """The nodes, by id. A tenant's are those in a pool that serves it."""
    found = [node for snapshot in snapshots for node in _of(snapshot, sought)]
    return sorted(found, key=lambda node: node.id)


def _of(snapshot: Snapshot, sought: Sought) -> Iterator[Node]:
    pools = frozenset(
        name for name, pool in snapshot.pools.items() if sought.tenant is None or pool.serves(sought.tenant)
    )
    text = sought.text.lower()
    for shape, positions in snapshot.members.items():
        if sought.tenant is not None and pools.isdisjoint(shape.pools):
            continue
        if sought.pool and PoolName(sought.pool) not in shape.pools & pools:
            continue
        if sought.capability and Token(sought.capability) not in shape.offered:
            continue
        for node in map(snapshot.node, positions):
            if text in node.id.lower() and sought.standing in {"", standing(node)}:
                yield node
