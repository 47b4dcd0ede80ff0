"""Where a job is: the shard that its id leads to has it, or knows where it went."""

import asyncio
from typing import Literal

from scheduler.domain.ids import Fence, JobId, NodeId, Tenant
from scheduler.domain.views import JobView
from scheduler.engine.shard import Shard
from scheduler.engine.shards import Shards
from scheduler.errors import ServerUnavailable
from scheduler.store.views import Elsewhere

# A job that moves is in its new shard within milliseconds, or after seconds if its mover died.
PAUSE_S = 0.05
HOPS_MAX = 64


class Located:
    """Reads and cancels of jobs by their ids."""

    def __init__(self, shards: Shards, deadline_ms: int) -> None:
        self._shards = shards
        self._deadline_ms = deadline_ms

    async def shard(self, job: JobId, tenant: Tenant) -> Shard | None:
        """The shard that has the tenant's job; while it moves, the one that it waited in. None: it is unknown."""
        shard = self._shards.of_job(job)
        found: Shard | None = None
        for _ in range(HOPS_MAX):
            known = await shard.views.whereabouts(job)
            if known is None:
                return found
            if known.tenant != tenant:
                return None
            if known.tag is None:
                return shard
            found = shard if known.waits else None
            shard = self._shards.tagged(known.tag)
        raise ServerUnavailable("the job moves from shard to shard")

    async def held(self, job: JobId, node: NodeId, fence: Fence) -> Shard | None:
        """The shard in which this attempt of the job is the node's own; None: it is not, or it is unknown."""
        shard = self._shards.of_job(job)
        for _ in range(HOPS_MAX):
            own, tag = await shard.views.holds(node, job, fence)
            if own:
                return shard
            if tag is None:
                return None
            shard = self._shards.tagged(tag)
        raise ServerUnavailable("the job moves from shard to shard")

    async def owner(self, job: JobId) -> Tenant | None:
        """Whose job it is, for those who may see every tenant's."""
        known = await self._shards.of_job(job).views.whereabouts(job)
        return None if known is None else Tenant(known.tenant)

    async def job(self, job: JobId, tenant: Tenant, wait_ms: int = 0) -> JobView | None:
        """The tenant's job as it stands; with wait_ms once it has ended, or as it is by then."""
        loop = asyncio.get_running_loop()
        end = loop.time() + wait_ms / 1000
        shard, before, waits = self._shards.of_job(job), None, None
        hops = 0
        while hops < HOPS_MAX:
            left_ms = int((end - loop.time()) * 1000)
            found = await (shard.waker.wait(job, tenant, left_ms) if left_ms > 0 else shard.reads.job(job))
            if isinstance(found, Elsewhere):
                if found.tenant != tenant:
                    return None
                before, waits = shard, found.view
                shard = self._shards.tagged(found.tag)
                hops += 1
            elif found is None and before is not None and waits is not None and left_ms > 0:
                # on its way: asked again where it waited, until it is there or the time is over
                await asyncio.sleep(PAUSE_S)
                shard, before, waits, hops = before, None, None, 0
            else:
                view = found or waits
                return view if view is None or view.tenant == tenant else None
        raise ServerUnavailable("the job moves from shard to shard")

    async def cancel(self, job: JobId, tenant: Tenant) -> Literal["cancelled", "duplicate", "unknown"]:
        """End the tenant's job wherever it is; one that moves is waited for."""
        end = asyncio.get_running_loop().time() + self._deadline_ms / 1000
        while True:
            shard = await self.shard(job, tenant)
            if shard is None:
                return "unknown"
            word = await shard.functions.job_cancel(job)
            if word not in {"moved", "unknown"} or (word == "unknown" and len(self._shards) == 1):
                return word  # type: ignore[return-value]
            if asyncio.get_running_loop().time() >= end:
                raise ServerUnavailable("the job moves between shards: try again")
            await asyncio.sleep(PAUSE_S)
