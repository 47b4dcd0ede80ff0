"""What people ask of the past and of single things: events of a node or a job, leases, and who waits."""

import asyncio
from collections.abc import Callable

from scheduler.domain.ids import JobId, NodeId, Tenant
from scheduler.domain.views import JobView
from scheduler.engine.shard import Shard
from scheduler.engine.shards import Shards
from scheduler.engine.subscription import sees
from scheduler.store.events import PAGE, Event, order
from scheduler.store.inspecting import LeaseView, QueueView

# Pages of 1,000 events that one question may read of a shard; the stream keeps about ten.
LATEST_PAGES, STORY_PAGES = 3, 12
# The last events of a job may come a little after its end, when the node confirms.
AFTERMATH_MS = 600_000


class Stories:
    """Bounded reads; a tenant hears of its own jobs and of nodes in its pools, as in the event stream."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    async def latest(self, count: int, wanted: Callable[[Event], bool], tenant: Tenant | None = None) -> list[Event]:
        """The newest events that are wanted, the newest first, among the last few thousand of each shard."""
        told = await asyncio.gather(*(self._latest(shard, count, wanted, tenant) for shard in self._shards))
        return _newest([event for part in told for event in part])[:count]

    async def of_node(self, node: NodeId, count: int, tenant: Tenant | None = None) -> list[Event]:
        """The newest events that name the node, the newest first."""

        def wanted(event: Event) -> bool:
            return event.fields.get("node") == node

        return await self._latest(self._shards.of_node(node), count, wanted, tenant)

    async def _latest(
        self, shard: Shard, count: int, wanted: Callable[[Event], bool], tenant: Tenant | None
    ) -> list[Event]:
        found: list[Event] = []
        position = "+"
        for _ in range(LATEST_PAGES):
            page = await shard.events.before(position)
            found += (e for e in page if wanted(e) and (tenant is None or sees(tenant, e, shard.mirror.snapshot)))
            if len(found) >= count or len(page) < PAGE:
                break
            position = page[-1].position
        return found[:count]

    async def of_job(self, job: JobId, view: JobView) -> list[Event]:
        """All that was heard of the job, in order: from its creation to its end, in whatever shards it was."""
        until = "+" if view.ended_at_ms is None else f"{view.ended_at_ms + AFTERMATH_MS}"
        shards = [self._shards.of_job(job)] if len(self._shards) == 1 else list(self._shards)
        told = await asyncio.gather(*(_heard(shard, job, f"{view.created_at_ms - 1}-0", until) for shard in shards))
        return _newest([event for part in told for event in part])[::-1]

    async def leases_of(self, node: NodeId) -> list[LeaseView]:
        return await self._shards.of_node(node).inspected.leases(node)

    async def limits_of(self, node: NodeId) -> dict[str, float]:
        return await self._shards.of_node(node).inspected.limits(node)

    async def leases(self) -> list[LeaseView]:
        """Some of the jobs that have a slot now: up to 50 of each shard."""
        told = await asyncio.gather(*(shard.inspected.leases() for shard in self._shards))
        return [lease for part in told for lease in part]

    async def queues(self) -> list[QueueView]:
        """Every queue of every shard, the longest first."""
        told = await asyncio.gather(*(shard.inspected.queues() for shard in self._shards))
        return sorted((queue for part in told for queue in part), key=lambda queue: -queue.jobs)


def _newest(events: list[Event]) -> list[Event]:
    return sorted(events, key=lambda event: order(event.position), reverse=True)


async def _heard(shard: Shard, job: JobId, position: str, until: str) -> list[Event]:
    heard: list[Event] = []
    for _ in range(STORY_PAGES):
        page = await shard.events.between(position, until)
        heard += (event for event in page if event.fields.get("job") == job)
        if len(page) < PAGE:
            break
        position = page[-1].position
    return heard
