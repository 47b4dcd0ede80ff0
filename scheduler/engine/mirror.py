"""The task that keeps the snapshot fresh: pages of what changed, and a refill where continuity is broken."""

import asyncio
import random
import time
from typing import Any

import msgspec

from scheduler.domain.ids import NodeId, PoolName
from scheduler.domain.node import Node, Shape, offered_by
from scheduler.domain.pool import DEFAULT_POOLS, Pool
from scheduler.placement.snapshot import Snapshot, updated
from scheduler.store.codec import MirrorPage
from scheduler.store.functions import Functions

EPOCH_GRACE_MS = 10_000


class Mirror:
    """Holds the current snapshot. `refresh` may be called by anyone; concurrent calls share one run."""

    def __init__(self, functions: Functions, refresh_ms: int) -> None:
        self.snapshot = Snapshot()
        self.filled = False
        self.failure: Exception | None = None
        self._functions = functions
        self._refresh_ms = refresh_ms
        self._refreshed_at = 0.0
        self._epoch_changed_at = float("-inf")
        self._history = ""
        self._shapes: dict[tuple[str, str], Shape] = {}
        self._running: asyncio.Task[None] | None = None

    @property
    def age_ms(self) -> int:
        """Since the snapshot was last known to be complete."""
        return int((time.monotonic() - self._refreshed_at) * 1000)

    @property
    def epoch_is_new(self) -> bool:
        """Redis was emptied, or may have forgotten some, a moment ago: nodes are still coming back, so nothing is
        impossible yet.
        """
        return (time.monotonic() - self._epoch_changed_at) * 1000 < EPOCH_GRACE_MS

    async def run(self) -> None:
        """Refresh for ever, every refresh_ms with a jitter that keeps replicas from marching in step."""
        while True:
            try:
                await self.refresh()
                self.failure = None
            except Exception as error:  # noqa: BLE001 - whatever it was, the next turn tries again and readyz tells
                self.failure = error
            await asyncio.sleep(self._refresh_ms / 1000 * random.uniform(0.8, 1.2))

    async def refresh(self) -> None:
        """Bring the snapshot to Redis's present version; joins a refresh that is under way."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._refresh())
        await asyncio.shield(self._running)

    async def close(self) -> None:
        """End the refresh that is under way, which nobody may be waiting for any more."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _refresh(self) -> None:
        started = time.monotonic()
        snapshot, cursor, complete = self.snapshot, self.snapshot.version, self.snapshot.version
        history = self._history
        config: int | None = snapshot.config_version if self.filled else None
        # tombstones up to this version are known: those before what is complete, or those gone when a fill began
        floor: int | None = complete or None
        while True:
            page = await self._functions.mirror_read(cursor, complete, config)
            floor = page.floor if floor is None else floor
            # a version may have gone back and on again unseen, where a failover or a restart forgot some
            same = page.epoch == snapshot.epoch and page.history == history
            known = same and page.version >= cursor and page.floor <= floor
            grown = self._applied(snapshot, page) if known else None
            if grown is None:
                if self.filled and (page.epoch != self.snapshot.epoch or page.history != self._history):
                    self._epoch_changed_at = time.monotonic()
                self._shapes.clear()
                snapshot, cursor, complete, config, floor = Snapshot(epoch=page.epoch), 0, 0, None, None
                history = page.history
                if page.version == 0:
                    break
                continue
            snapshot, config = grown, page.config_version
            if not page.nodes:
                break
            cursor = int(page.nodes[-1][1])
            if cursor >= page.version:
                break
        self.snapshot, self._history = snapshot, history
        self._refreshed_at = started
        self.filled = True

    def _applied(self, snapshot: Snapshot, page: MirrorPage) -> Snapshot | None:
        """The snapshot with this page in it; None where the page speaks of a node that is not known but should be."""
        changed: list[Node] = []
        removed: list[NodeId] = []
        version = snapshot.version
        for entry in page.nodes:
            version = int(entry[1])
            if len(entry) == 7 and NodeId(entry[0]) not in snapshot.positions:
                return None
            node = self._node(snapshot, entry)
            if node is None:
                removed.append(NodeId(entry[0]))
            else:
                changed.append(node)
        grown = updated(snapshot, changed, removed) if page.nodes else snapshot
        pools = grown.pools if page.pools is None else _pools(page.pools, page.config_version)
        return Snapshot(
            epoch=page.epoch,
            version=max(version, snapshot.version) if page.nodes else page.version,
            structure_version=page.structure_version,
            config_version=page.config_version,
            pools=pools,
            nodes=grown.nodes,
            positions=grown.positions,
            members=grown.members,
            free=grown.free,
        )

    def _node(self, snapshot: Snapshot, entry: list[Any]) -> Node | None:
        """The node of one entry, or None for one that is gone; shapes are shared by all nodes alike."""
        name, _, state, *load = entry
        if state == "":
            return None
        slots, used, over, quarantined = load[:4]
        if len(load) > 4:
            structure, _, _, capabilities, _, pools = load[4][:6]
            key = (capabilities, pools)
            shape = self._shapes.get(key)
            if shape is None:
                shape = Shape(offered_by(capabilities.split()), frozenset(map(PoolName, pools.split())))
                self._shapes[key] = shape
        else:
            known = snapshot.node(snapshot.positions[NodeId(name)])
            structure, shape = known.structure, known.shape
        return Node(NodeId(name), shape, structure, state, slots, used, over, quarantined)


def _pools(stored: dict[str, str], config_version: int) -> dict[PoolName, Pool]:
    if config_version == 0:
        return dict(DEFAULT_POOLS)
    return {PoolName(name): msgspec.json.decode(text, type=Pool) for name, text in stored.items()}
