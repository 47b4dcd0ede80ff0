"""The pools of the whole fleet and the quotas of its tenants, as its shards have them together."""

import asyncio
import logging

from scheduler.domain.ids import PoolName, Tenant
from scheduler.domain.tenants import TenantView
from scheduler.domain.views import PoolView
from scheduler.engine.shards import Shards
from scheduler.errors import FleetError
from scheduler.store.copying import (
    copy_configuration,
    copy_tenants,
    pools_of_all,
    remove_pool,
    restore_configuration,
    restore_tenants,
)
from scheduler.store.tenants import TenantReads, tenants_of_all

log = logging.getLogger("fleet.engine")


class Configured:
    """Reads and changes of pools and quotas. A change is told once every shard decides by it."""

    def __init__(self, shards: Shards, refresh_ms: int) -> None:
        self._shards = shards
        self._refresh_ms = refresh_ms

    async def keep(self) -> None:
        """For ever: bring the others what was written to the first shard, by whomever."""
        while len(self._shards) > 1:
            try:
                await self._agree()
            except FleetError:
                # what does not answer has it later
                pass
            except Exception:
                log.exception("configuring_failed")
            await asyncio.sleep(self._refresh_ms / 1000)

    async def _agree(self) -> None:
        first, *others = self._shards
        copies = [shard for shard in others if shard.mirror.filled]
        if not copies or not first.mirror.filled:
            return
        newest = max(copies, key=lambda shard: shard.mirror.config_source)
        if newest.mirror.config_source > first.mirror.snapshot.config_version:
            await restore_configuration(first.views, first.functions, newest.views, newest.mirror.config_source)
        elif any(shard.mirror.config_source < first.mirror.snapshot.config_version for shard in copies):
            await self._copy()
        newest = max(copies, key=lambda shard: shard.mirror.tenants_source)
        if newest.mirror.tenants_source > first.mirror.quotas.version:
            await restore_tenants(first.functions, newest.functions, newest.mirror.tenants_source)
        elif any(shard.mirror.tenants_source < first.mirror.quotas.version for shard in copies):
            await self._copy_tenants()

    async def put(self, pool: PoolName, text: str) -> None:
        await self._shards.first.functions.pool_put(pool, text)
        await self._copy()

    async def remove(self, pool: PoolName) -> bool:
        """Whether it was there. Copied also where it is gone already: the last removal may have failed halfway."""
        removed = await remove_pool(self._shards.first.functions, [shard.views for shard in self._shards], pool)
        await self._copy()
        return removed

    async def pools(self) -> tuple[int, list[PoolView]]:
        """The first shard's config_version, and every pool by name with its members in all shards."""
        return await pools_of_all([shard.views for shard in self._shards])

    async def put_tenant(self, tenant: Tenant, text: str) -> None:
        await self._shards.first.functions.tenant_put(tenant, text)
        await self._copy_tenants()

    async def remove_tenant(self, tenant: Tenant) -> bool:
        """Whether it had a row; copied also where it has none, as for pools."""
        removed = await self._shards.first.functions.tenant_remove(tenant) == "removed"
        await self._copy_tenants()
        return removed

    async def tenants(self, only: Tenant | None = None) -> tuple[int, list[TenantView]]:
        """The version of the quotas, and the tenants with what they may have and have."""
        return await tenants_of_all([TenantReads.beside(shard.functions) for shard in self._shards], only)

    async def _copy(self) -> None:
        first, *others = self._shards
        await copy_configuration(first.functions, [shard.functions for shard in others])

    async def _copy_tenants(self) -> None:
        first, *others = self._shards
        await copy_tenants(first.functions, [shard.functions for shard in others])
        # this replica checks rates and payloads by it at once, others within a refresh
        await first.mirror.refresh()
