"""The API keys as this replica knows them, and whom they let in. While Redis is away the last ones go on."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping

from scheduler.domain.apikey import ANYONE, ApiKey, Caller, KeyId, admitted, hashed, read_key
from scheduler.errors import FleetError, ServerUnavailable
from scheduler.settings import Auth
from scheduler.store.apikeys import ApiKeys

log = logging.getLogger("fleet.engine")
# An id that is not known may be new: it is looked for at once, but Redis is not asked more often than this.
LOOK_S = 0.05


class Keyring:
    """Holds a copy of all keys. Who waits for a look shares it with the others who do."""

    def __init__(self, keys: ApiKeys, auth: Auth, refresh_ms: int) -> None:
        self._read = keys
        self._auth = auth
        self._refresh_ms = refresh_ms
        self._keys: Mapping[KeyId, ApiKey] = {}
        self._version: str | None = None
        # a server that was emptied must not open what was closed
        self._begun = False
        self._reading = asyncio.Lock()
        self._look: asyncio.Task[None] | None = None
        self._looks: set[asyncio.Task[None]] = set()
        self._looked_at = float("-inf")
        self._watched: dict[object, tuple[Caller, Callable[[], None]]] = {}

    @property
    def asks(self) -> bool:
        """Whether anybody is ever asked for a key."""
        return self._auth != "off"

    @property
    def needed(self) -> bool:
        """Whether nobody is let in without a key: settled, or since the first key there was."""
        return self._auth == "required" or self._begun

    async def run(self) -> None:
        """Follow Redis for ever; what may be told by looking at the keys is in time by refresh_ms."""
        while self._auth != "off":
            try:
                await self.refresh()
            except FleetError:
                # those who need more than the last keys are told
                pass
            except Exception:
                log.exception("apikeys_unread")
            self._end_watched()
            await asyncio.sleep(self._refresh_ms / 1000 * random.uniform(0.8, 1.0))

    async def refresh(self) -> None:
        """Bring the keys to Redis's present version; reads one after the other, or an older one could come last."""
        async with self._reading:
            version = await self._read.version()
            if version == self._version:
                return
            # a user of Redis whose rights are older than keys may not read them: open while there is none, then shut
            self._begun = self._begun or bool(version)
            # a key that is written meanwhile has a version of its own
            self._keys, self._version = await self._read.all() if version else {}, version

    async def close(self) -> None:
        """End the looks that somebody may still wait for."""
        for look in self._looks:
            look.cancel()
        await asyncio.gather(*self._looks, return_exceptions=True)

    async def caller(self, text: str | None) -> Caller | None:
        """Who has this key, or None. While no key is needed it is anyone.

        ServerUnavailable where only Redis could tell, and does not answer.
        """
        if self._auth == "off":
            return ANYONE
        found = None if text is None else read_key(text)
        hash_ = "" if found is None else hashed(found[1])
        if found is not None and (known := self._admitted(found[0], hash_)) is not None:
            return known
        # what is not known may be new, also that a key is needed
        if self._version is None or (found is not None and not self._refused(found[0], hash_)):
            await self._looked()
        if not self.needed:
            return ANYONE
        return None if found is None else self._admitted(found[0], hash_)

    def key(self, id_: KeyId) -> ApiKey | None:
        return self._keys.get(id_)

    def sessions(self, parent: KeyId) -> list[KeyId]:
        """The sessions that were made with this key, the oldest first."""
        own = [(key.created_at_ms, id_) for id_, key in self._keys.items() if key.parent == parent]
        return [id_ for _, id_ in sorted(own)]

    def admits(self, caller: Caller) -> bool:
        """Whether who was let in before would be let in now."""
        if caller.key is None:
            return self._auth == "off" or not self.needed
        return self._admitted(caller.key, caller.hash) is not None

    def watch(self, caller: Caller, ended: Callable[[], None]) -> Callable[[], None]:
        """Call this once the caller's key ends, within a refresh; what is returned ends the watch."""
        mark = object()
        self._watched[mark] = (caller, ended)

        def unwatch() -> None:
            self._watched.pop(mark, None)

        return unwatch

    def _admitted(self, id_: KeyId, hash_: str) -> Caller | None:
        return admitted(self._keys, id_, hash_, int(time.time() * 1000))

    def _refused(self, id_: KeyId, hash_: str) -> bool:
        """Whether the key is known and its time is over, which no look will change."""
        key = self._keys.get(id_)
        return key is not None and key.hash == hash_

    def _end_watched(self) -> None:
        over = [mark for mark, (caller, _) in self._watched.items() if not self.admits(caller)]
        for mark in over:
            _, ended = self._watched.pop(mark)
            ended()

    async def _looked(self) -> None:
        """Return after a look at Redis that began no earlier than this call."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._look_soon())
            self._looks.add(self._look)
            self._look.add_done_callback(self._ended)
        await asyncio.shield(self._look)

    def _ended(self, look: "asyncio.Task[None]") -> None:
        self._looks.discard(look)
        if not look.cancelled():
            # whoever waited for it may have gone
            look.exception()

    async def _look_soon(self) -> None:
        await asyncio.sleep(max(self._looked_at + LOOK_S - time.monotonic(), 0))
        self._looked_at = time.monotonic()
        # who comes from here on waits for the next one
        self._look = None
        try:
            await self.refresh()
        except ServerUnavailable as error:
            raise ServerUnavailable(f"the key cannot be checked: {error.detail}") from error
