"""The read-only view of the fleet that a replica selects from, and how a newer one grows out of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from scheduler.domain.ids import NodeId, PoolName
from scheduler.domain.node import Node, Shape
from scheduler.domain.pool import DEFAULT_POOLS, Pool


@dataclass(frozen=True)
class Snapshot:
    """Nodes by position. Positions are kept while a node is known, so compiled demands can name nodes by them.

    `free` is the only part that changes in place: each claim returns true loads, and dispatch writes them here.
    """

    epoch: str = ""
    version: int = 0
    structure_version: int = 0
    config_version: int = 0
    pools: Mapping[PoolName, Pool] = field(default_factory=lambda: dict(DEFAULT_POOLS))
    nodes: tuple[Node | None, ...] = ()
    positions: Mapping[NodeId, int] = field(default_factory=dict)
    members: Mapping[Shape, tuple[int, ...]] = field(default_factory=dict)
    free: list[int] = field(default_factory=list)

    @cached_property
    def ids(self) -> list[NodeId]:
        """All node ids, sorted."""
        return sorted(self.positions)

    def node(self, position: int) -> Node:
        """The node at a position that is in use."""
        node = self.nodes[position]
        if node is None:
            raise LookupError(position)
        return node


def updated(old: Snapshot, changed: Iterable[Node], removed: Iterable[NodeId]) -> Snapshot:
    """The snapshot after these nodes changed or went; costs copies of flat tuples plus work for each change."""
    nodes: list[Node | None] = list(old.nodes)
    free = list(old.free)
    positions: dict[NodeId, int] | None = None
    gone: dict[Shape, set[int]] = {}
    come: dict[Shape, list[int]] = {}
    for node_id in removed:
        position = old.positions.get(node_id)
        if position is None or (before := nodes[position]) is None:
            continue
        positions = dict(old.positions) if positions is None else positions
        del positions[node_id]
        gone.setdefault(before.shape, set()).add(position)
        nodes[position], free[position] = None, 0
    vacant = [position for position, node in enumerate(nodes) if node is None] if None in nodes else []
    for node in changed:
        position = (old.positions if positions is None else positions).get(node.id)
        if position is None:
            positions = dict(old.positions) if positions is None else positions
            position = vacant.pop() if vacant else len(nodes)
            if position == len(nodes):
                nodes.append(None)
                free.append(0)
            positions[node.id] = position
            come.setdefault(node.shape, []).append(position)
        elif (before := nodes[position]) is not None and before.shape != node.shape:
            gone.setdefault(before.shape, set()).add(position)
            come.setdefault(node.shape, []).append(position)
        nodes[position], free[position] = node, node.free
    return replace(
        old,
        nodes=tuple(nodes),
        free=free,
        positions=old.positions if positions is None else positions,
        members=_moved(old.members, gone, come),
    )


def _moved(
    members: Mapping[Shape, tuple[int, ...]], gone: dict[Shape, set[int]], come: dict[Shape, list[int]]
) -> Mapping[Shape, tuple[int, ...]]:
    if not gone and not come:
        return members
    moved = dict(members)
    for shape in gone.keys() | come.keys():
        left: set[int] = gone.get(shape, set())
        kept = [position for position in moved.get(shape, ()) if position not in left] + come.get(shape, [])
        if kept:
            moved[shape] = tuple(kept)
        else:
            moved.pop(shape, None)
    return moved
