"""The API keys as they stand in the first shard; what cannot be read of them lets nobody in."""

import logging
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from redis.exceptions import RedisError

from scheduler.domain.apikey import ApiKey, KeyId
from scheduler.errors import ServerUnavailable
from scheduler.store.client import Client, heeding_cancel
from scheduler.store.keys import apikeys_key

log = logging.getLogger("fleet.store")
_DECODER = msgspec.json.Decoder(ApiKey)


class ApiKeys:
    """Reads; changes are functions."""

    def __init__(self, client: Client, first: str) -> None:
        self._client = client
        self._first = first

    async def version(self) -> str:
        """Other than before if a key has changed since; empty where there never was one."""
        return cast("bytes", await self._ask("HGET", self._first, "apikeys_version") or b"").decode()

    async def all(self) -> dict[KeyId, ApiKey]:
        held = await self._ask("HGETALL", apikeys_key(self._first))
        # a bare answer in the older protocol
        pairs: Mapping[bytes, bytes] = (
            held if isinstance(held, dict) else dict(zip(held[::2], held[1::2], strict=True))
        )
        found: dict[KeyId, ApiKey] = {}
        for name, text in pairs.items():
            try:
                found[KeyId(name.decode("ascii", "replace"))] = _DECODER.decode(text)
            except msgspec.MsgspecError:
                log.warning("apikey_unreadable", extra={"key": name.decode("ascii", "replace")})
        return found

    async def _ask(self, *command: str) -> Any:
        try:
            with heeding_cancel():
                return await self._client.execute_command(*command)
        except (TimeoutError, RedisError, OSError) as error:
            raise ServerUnavailable(f"Redis does not answer: {error}") from error
