"""One running replica without HTTP: its connections, background tasks and everything a route may ask of it."""

import asyncio
import bisect
import contextlib
from collections import Counter
from itertools import islice
from typing import Literal

from scheduler.domain.demand import Demand
from scheduler.domain.explanation import Explanation
from scheduler.domain.ids import JobId, NodeId, Tenant
from scheduler.domain.job import JobRequest
from scheduler.engine.batch import ClaimBatcher
from scheduler.engine.dispatch import Dispatcher, Verdict
from scheduler.engine.door import Door
from scheduler.engine.fanout import Fanout
from scheduler.engine.following import Follower
from scheduler.engine.mirror import Mirror
from scheduler.engine.reading import JobReads
from scheduler.engine.reaping import reap_for_ever
from scheduler.engine.waking import Waker
from scheduler.errors import FleetError, LibraryMismatch, ServerUnavailable
from scheduler.placement.explain import explain
from scheduler.settings import Settings
from scheduler.store.client import connect, connect_blocking
from scheduler.store.events import BLOCK_MS, EventReader
from scheduler.store.explaining import explain_by_redis
from scheduler.store.functions import Functions
from scheduler.store.keys import shard_key
from scheduler.store.library import check_library, read_library
from scheduler.store.views import JobView, NodeView, Views


class Engine:
    """Start it, ask it, stop it. It can be killed at any line: what it holds is a copy or a wish."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.library = read_library()
        shard = shard_key(settings.namespace)
        timeout_ms = settings.redis_timeout_ms
        self._client = connect(settings.redis_url, connections=settings.redis_connections, timeout_ms=timeout_ms)
        self._blocking = connect_blocking(settings.redis_url, block_ms=BLOCK_MS)
        self.functions = Functions(self._client, shard, self.library)
        self.views = Views(self._client, shard)
        self.mirror = Mirror(self.functions, settings.refresh_ms)
        self._batcher = ClaimBatcher(self.functions, settings.deadline_ms)
        self._dispatcher = Dispatcher(
            self.mirror, self._batcher, candidates=settings.candidates, deadline_ms=settings.deadline_ms
        )
        self.door = Door()
        self._reads = JobReads(self.views)
        self._follower = Follower(EventReader(self._blocking, shard), lambda: self.mirror.snapshot.epoch)
        self.waker = Waker(self._follower, self._reads, self.views)
        pages = EventReader(self._client, shard)
        self.fanout = Fanout(self._follower, pages, self.mirror, settings.event_clients)
        self._follower.add(self.waker)
        self._follower.add(self.fanout)
        self._checked: FleetError | None = ServerUnavailable("the library has not been checked yet")
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to follow Redis; returns at once, also while Redis is down."""
        self._tasks = [
            asyncio.create_task(self.mirror.run()),
            asyncio.create_task(reap_for_ever(self.functions, self.settings.reap_ms)),
            asyncio.create_task(self._check_for_ever()),
            asyncio.create_task(self.door.watch()),
        ]

    async def stop(self) -> None:
        """End the background tasks and close the connections; claims under way are answered first."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._batcher.close()
        await self._follower.close()
        await self._reads.close()
        await self.mirror.close()
        await self._client.aclose()
        await self._blocking.aclose()

    async def _check_for_ever(self) -> None:
        """Verify the library at the start, and again each second, for a server may come back without it."""
        while True:
            try:
                await check_library(self._client, self.functions.shard, self.library)
                self._checked = None
            except FleetError as error:
                self._checked = error
            except Exception as error:  # noqa: BLE001 - this task must outlive whatever a server may answer
                self._checked = ServerUnavailable(str(error))
            await asyncio.sleep(1.0 if self._checked is None else 0.1)

    def obstacle(self) -> str | None:
        """Why this replica should get no requests now, or None."""
        if self._checked is not None:
            return str(self._checked)
        if not self.mirror.filled:
            return f"the snapshot is not filled yet{f': {self.mirror.failure}' if self.mirror.failure else ''}"
        if self.mirror.age_ms > max(5 * self.settings.refresh_ms, 2_000):
            return f"the snapshot is {self.mirror.age_ms} ms old: {self.mirror.failure}"
        return None

    async def place(self, request: JobRequest) -> Verdict:
        """Claim a slot, or say why not, within settings.deadline_ms; then raises ServerUnavailable."""
        if isinstance(self._checked, LibraryMismatch):
            raise self._checked
        return await self.door.passed(self._dispatcher.place(request))

    def release(self) -> None:
        """Answer the long polls and end the event streams now, because the replica is about to stop."""
        self.waker.release()
        self.fanout.release()

    async def job(self, job: JobId) -> JobView | None:
        return await self._reads.job(job)

    async def nodes(self, after: str, limit: int, tenant: Tenant) -> tuple[list[NodeView], str | None]:
        """A page of the tenant's nodes by id, and the id to go on after, or None at the end.

        Which ids exist is asked first. A node that has just left the tenant's pools makes the page shorter.
        """
        with contextlib.suppress(FleetError):
            await self.mirror.refresh()
        snapshot, serving = self.mirror.snapshot, await self.views.serving(tenant)
        seen = {shape for shape in snapshot.members if not serving.pools.isdisjoint(shape.pools)}
        start = bisect.bisect_right(snapshot.ids, after)
        own = (i for i in islice(snapshot.ids, start, None) if snapshot.node(snapshot.positions[i]).shape in seen)
        page = list(islice(own, limit + 1))
        nodes = await self.views.nodes(page[:limit])
        more = len(page) > limit
        return [node for node in nodes if serving.shows(node)], page[limit - 1] if more else None

    async def tenants_node(self, node: NodeId, tenant: Tenant) -> NodeView | None:
        """The node, or None where it is in no pool that serves the tenant."""
        view = await self.node(node)
        return view if view and (await self.views.serving(tenant)).shows(view) else None

    async def node(self, node: NodeId) -> NodeView | None:
        found = await self.views.nodes([node])
        return found[0] if found else None

    async def explain(self, demand: Demand, exclude: frozenset[NodeId]) -> tuple[Explanation, int]:
        """Why the demand would be placed or not, by this replica's snapshot, and the snapshot's age in ms.

        While nodes are still to be brought under a new configuration Redis explains instead: it knows where they go.
        """
        with contextlib.suppress(FleetError):
            await self.mirror.refresh()
            if not await self.views.settled():
                return await explain_by_redis(self.functions, demand, exclude), 0
        snapshot, age_ms = self.mirror.snapshot, self.mirror.age_ms
        # every node of a large fleet is a while: claims go on meanwhile
        return await asyncio.to_thread(explain, snapshot, demand, exclude), age_ms

    async def remove_node(self, node: NodeId) -> Literal["removed", "unknown", "fenced"]:
        """Take the node's present incarnation out of the fleet."""
        view = await self.node(node)
        return "unknown" if view is None else await self.functions.node_remove(node, view.incarnation)

    async def cluster(self) -> dict[str, object]:
        """The shard as Redis has it, beside what this replica's snapshot says."""
        meta, leases, free_nodes = await self.views.shard()
        snapshot = self.mirror.snapshot
        nodes = [node for node in snapshot.nodes if node is not None]
        states = Counter(node.state for node in nodes)
        return {
            "epoch": meta.get("epoch", ""),
            "abi": int(meta.get("abi", 0)),
            "revision": int(meta.get("revision", 0)),
            "version": int(meta.get("version", 0)),
            "structure_version": int(meta.get("structure_version", 0)),
            "config_version": int(meta.get("config_version", 0)),
            "leases": leases,
            "free_nodes": free_nodes,
            "nodes": {state: states[state] for state in ("ready", "cordoned", "draining", "lost")},
            "slots": sum(node.slots for node in nodes if node.state != "lost"),
            "snapshot": {"version": snapshot.version, "age_ms": self.mirror.age_ms, "nodes": len(nodes)},
        }
