"""The read-only view of the fleet that a replica selects from, and how a newer one grows out of it."""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, TypeAlias

from scheduler.domain.ids import NodeId, PoolName
from scheduler.domain.node import Node, Shape
from scheduler.domain.pool import DEFAULT_POOLS, Pool

# Numbers side by side: a large fleet's draws wait for memory more than for anything else.
Positions: TypeAlias = "array[int]"
MOVES_KEPT = 64


class Move(NamedTuple):
    """Shapes whose members, or the most slots among them, changed between two stamps."""

    before: object
    after: object
    shapes: frozenset[Shape]


@dataclass(frozen=True)
class Snapshot:
    """Nodes by position. Positions are kept while a node is known, so compiled demands can name nodes by them.

    `ceilings` has the most slots of a node of each shape, or more. `stamp` is another object after each change of
    `members` or `ceilings`, and `moves` says what the last of these changes were.
    `free` is the only part that changes in place: each claim returns true loads, and dispatch writes them here.
    """

    epoch: str = ""
    version: int = 0
    structure_version: int = 0
    config_version: int = 0
    pools: Mapping[PoolName, Pool] = field(default_factory=lambda: dict(DEFAULT_POOLS))
    nodes: tuple[Node | None, ...] = ()
    positions: Mapping[NodeId, int] = field(default_factory=dict)
    members: Mapping[Shape, Positions] = field(default_factory=dict)
    ceilings: Mapping[Shape, int] = field(default_factory=dict)
    stamp: object = field(default_factory=object)
    moves: tuple[Move, ...] = ()
    free: Positions = field(default_factory=lambda: array("i"))

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

    def moved_since(self, stamp: object) -> frozenset[Shape] | None:
        """The shapes that changed since a snapshot of that stamp, or None where it is too long ago."""
        moved: frozenset[Shape] = frozenset()
        for move in self.moves:
            if move.before is stamp:
                moved, stamp = moved | move.shapes, move.after
        return moved if stamp is self.stamp else None


def updated(old: Snapshot, changed: Iterable[Node], removed: Iterable[NodeId]) -> Snapshot:
    """The snapshot after these nodes changed or went; costs copies of flat tuples plus work for each change."""
    nodes: list[Node | None] = list(old.nodes)
    free = old.free[:]
    positions: dict[NodeId, int] | None = None
    gone: dict[Shape, set[int]] = {}
    come: dict[Shape, list[int]] = {}
    most: dict[Shape, int] = {}
    lowered: set[Shape] = set()
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
        elif before is not None and before.slots > node.slots and before.slots == old.ceilings[node.shape]:
            lowered.add(node.shape)
        if node.slots > most.get(node.shape, old.ceilings.get(node.shape, 0)):
            most[node.shape] = node.slots
        nodes[position], free[position] = node, node.free
    new = replace(old, nodes=tuple(nodes), free=free, positions=old.positions if positions is None else positions)
    return _moved(new, gone, come, most, lowered) if gone or come or most or lowered else new


def _moved(
    new: Snapshot,
    gone: dict[Shape, set[int]],
    come: dict[Shape, list[int]],
    most: dict[Shape, int],
    lowered: set[Shape],
) -> Snapshot:
    members, ceilings = dict(new.members), dict(new.ceilings)
    shapes = frozenset(gone.keys() | come.keys() | most.keys() | lowered)
    for shape in shapes:
        kept, left = members.get(shape, array("i")), gone.get(shape)
        if left:
            kept = array("i", (position for position in kept if position not in left))
        if not (kept := kept + array("i", come.get(shape, ()))):
            members.pop(shape, None)
            ceilings.pop(shape, None)
            continue
        members[shape] = kept
        if left or shape in lowered:
            ceilings[shape] = max(new.node(position).slots for position in kept)
        else:
            ceilings[shape] = most.get(shape) or ceilings[shape]
    stamp = object()
    moves = (*new.moves, Move(new.stamp, stamp, shapes))[-MOVES_KEPT:]
    return replace(new, members=members, ceilings=ceilings, stamp=stamp, moves=moves)
