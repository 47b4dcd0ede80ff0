"""The pools of the whole fleet, as its shards have them together."""

import asyncio
import logging

from scheduler.domain.ids import PoolName
from scheduler.domain.views import PoolView
from scheduler.engine.shards import Shards
from scheduler.errors import FleetError
from scheduler.store.copying import copy_configuration, pools_of_all, remove_pool, restore_configuration

log = logging.getLogger("fleet.engine")


class Configured:
    """Reads and changes of pools. A change is told once every shard decides by it."""

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

    async def _copy(self) -> None:
        first, *others = self._shards
        await copy_configuration(first.views, [shard.functions for shard in others])
