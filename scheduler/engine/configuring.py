"""The pools of the whole fleet, as its shards have them together."""

import asyncio
import contextlib

from scheduler.domain.ids import PoolName
from scheduler.domain.views import PoolView
from scheduler.engine.shards import Shards
from scheduler.errors import FleetError
from scheduler.store.copying import copy_configuration, pools_of_all


class Configured:
    """Reads and changes of pools. A change is told once every shard decides by it."""

    def __init__(self, shards: Shards, refresh_ms: int) -> None:
        self._shards = shards
        self._refresh_ms = refresh_ms

    async def keep(self) -> None:
        """For ever: bring the others what was written to the first shard, by whomever."""
        while len(self._shards) > 1:
            version = self._shards.first.mirror.snapshot.config_version
            behind = [shard for shard in self._shards if shard.mirror.filled and shard.mirror.config_source < version]
            if any(shard is not self._shards.first for shard in behind):
                with contextlib.suppress(FleetError):
                    await self._copy()
            await asyncio.sleep(self._refresh_ms / 1000)

    async def put(self, pool: PoolName, text: str) -> None:
        await self._shards.first.functions.pool_put(pool, text)
        await self._copy()

    async def remove(self, pool: PoolName) -> bool:
        """Whether it was there. Copied also where it is gone already: the last removal may have failed halfway."""
        word = await self._shards.first.functions.pool_remove(pool)
        await self._copy()
        return word == "removed"

    async def pools(self) -> tuple[int, list[PoolView]]:
        """The first shard's config_version, and every pool by name with its members in all shards."""
        return await pools_of_all([shard.views for shard in self._shards])

    async def _copy(self) -> None:
        first, *others = self._shards
        await copy_configuration(first.views, [shard.functions for shard in others])
