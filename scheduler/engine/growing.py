"""How a snapshot grows from pages: entries are collected, and put into it some thousands at a time."""

from dataclasses import replace
from typing import Any

import msgspec

from scheduler.domain.ids import NodeId, PoolName
from scheduler.domain.node import Node, Shape, offered_by
from scheduler.domain.pool import DEFAULT_POOLS, Pool
from scheduler.placement.snapshot import Snapshot, updated
from scheduler.store.codec import MirrorPage

# Each time costs a copy of the snapshot's flat lists, so not for each page; and no request waits for all of a fill.
COLLECTED_MAX = 5_000


class Growing:
    """One refresh: `take` each page, then read `snapshot`."""

    def __init__(self, snapshot: Snapshot, shapes: dict[tuple[str, str], Shape]) -> None:
        self.snapshot = snapshot
        self._shapes = shapes
        self._collected: dict[NodeId, Node | None] = {}

    def take(self, page: MirrorPage, *, last: bool) -> bool:
        """Take the page in; False where it speaks of a node that is not known but should be."""
        version = self.snapshot.version
        for entry in page.nodes:
            version = int(entry[1])
            if entry[2] == "":
                self._collected[NodeId(entry[0])] = None
                continue
            node = self._node(entry)
            if node is None:
                return False
            self._collected[node.id] = node
        if last or len(self._collected) >= COLLECTED_MAX or page.pools is not None:
            self._put(page, max(version, self.snapshot.version) if page.nodes else page.version)
        return True

    def _put(self, page: MirrorPage, version: int) -> None:
        grown = self.snapshot
        if self._collected:
            changed = [node for node in self._collected.values() if node is not None]
            grown = updated(grown, changed, (name for name, node in self._collected.items() if node is None))
            self._collected = {}
        self.snapshot = replace(
            grown,
            epoch=page.epoch,
            version=version,
            structure_version=page.structure_version,
            config_version=page.config_version,
            pools=grown.pools if page.pools is None else _pools(page.pools, page.config_version),
        )

    def _known(self, name: NodeId) -> Node | None:
        if name in self._collected:
            return self._collected[name]
        position = self.snapshot.positions.get(name)
        return None if position is None else self.snapshot.nodes[position]

    def _node(self, entry: list[Any]) -> Node | None:
        """The node of one entry; shapes are shared by all nodes alike. None where its shape is not told nor known."""
        name, _, state, slots, used, over, quarantined, *more = entry
        if more:
            structure, capabilities, pools = more[0][:3]
            key = (capabilities, pools)
            shape = self._shapes.get(key)
            if shape is None:
                shape = Shape(offered_by(capabilities.split()), frozenset(map(PoolName, pools.split())))
                self._shapes[key] = shape
        else:
            known = self._known(NodeId(name))
            if known is None:
                return None
            structure, shape = known.structure, known.shape
        return Node(NodeId(name), shape, structure, state, slots, used, over, quarantined)


def _pools(stored: dict[str, str], config_version: int) -> dict[PoolName, Pool]:
    if config_version == 0:
        return dict(DEFAULT_POOLS)
    return {PoolName(name): msgspec.json.decode(text, type=Pool) for name, text in stored.items()}
