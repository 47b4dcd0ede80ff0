"""How many requests each tenant makes in a second, counted in Redis for all replicas together."""

import asyncio
import time
from typing import Any

from limits.aio.storage import RedisStorage
from redis.exceptions import RedisError

from scheduler.domain.ids import Tenant
from scheduler.store.client import Client
from scheduler.store.keys import rate_key

WINDOW_S = 1
# A limit is not worth a wait: who gets no answer in time goes on, and for a while nobody asks.
PATIENCE_S, ASIDE_S = 0.2, 1.0


class _Counts(RedisStorage):
    """The counts of the library over a client that is connected already, under names of ours."""

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        super().__init__("redis://", implementation="redispy", key_prefix=prefix)

    def configure_bridge(self) -> None:
        bridge: Any = self.bridge
        bridge.storage = self._client
        bridge.connection_getter = lambda _readonly: self._client

    def _current_window_key(self, key: str) -> str:
        # the shard's tag keeps both in one hash slot
        return key

    def _previous_window_key(self, key: str) -> str:
        return f"{key}:before"


class Rates:
    """A sliding window for each tenant. Nothing is refused because Redis does not answer."""

    def __init__(self, client: Client, shard: str) -> None:
        self._counts = _Counts(client, rate_key(shard))
        self._aside_until = 0.0

    async def take(self, tenant: Tenant, limit: int, requests: int = 1) -> bool:
        """Whether the tenant may make so many requests now, which are counted then; all of them or none."""
        if time.monotonic() < self._aside_until:
            return True
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._counts.acquire_sliding_window_entry(tenant, limit, WINDOW_S, requests)
        except (TimeoutError, RedisError, OSError):
            self._aside_until = time.monotonic() + ASIDE_S
            return True
