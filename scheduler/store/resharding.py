"""Moving the hash slot of a shard to another primary of a Redis Cluster, while the fleet runs."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.crc import key_slot
from redis.exceptions import RedisError, ResponseError

from scheduler.errors import BadInput, ServerUnavailable
from scheduler.store.client import Client
from scheduler.store.keys import tag_of
from scheduler.store.library import check_primaries
from scheduler.store.moves import Moves

# Keys of one MIGRATE, and what it may take: an inbox or a stream of events goes over as a whole.
KEYS_MAX, MIGRATE_MS = 50, 10_000
POLL_S = 0.05
# A shard that cannot be told to go on must not stand still because of one lost connection.
THAW_S = 30.0


class Resharding:
    """One shard's move. Primaries are named `host:port`, as the cluster names them."""

    def __init__(self, client: Client, shard: str, credentials: tuple[str, str] | None = None) -> None:
        self._client = client
        self._shard = shard
        self._slot = key_slot(tag_of(shard).encode())
        self._functions = Moves(client, shard)
        self._credentials = credentials
        # from here on its keys may be in two places
        self._divided = False

    async def move(self, to: str, deadline_s: float = 600.0) -> str:
        """Move it, and say how: the server does it in one step where it can, else the shard is frozen meanwhile.

        Raises BadInput for a primary that is not known, LibraryMismatch where one lacks the library, and
        ServerUnavailable where it fails. Then it may be repeated, and must be where some keys went over: the shard
        stays frozen until then, for a call would meet half of them.
        """
        try:
            primaries = await self._client.primaries()
            if to not in primaries:
                raise BadInput("TO", f"must be one of the primaries of a cluster: {', '.join(primaries)}")
            source = await self._client.primary_of(self._shard)
            target_id = (await self._client.ask(to, "CLUSTER", "MYID")).decode()
            if source == to:
                async with asyncio.timeout(deadline_s):
                    return await self._stays(to, primaries)
            await check_primaries(self._client)
            async with asyncio.timeout(deadline_s):
                # one that has just joined takes nothing until it knows the cluster
                while b"cluster_state:ok" not in await self._client.ask(to, "CLUSTER", "INFO"):  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(POLL_S)
                if await self._migrated_by_server(source, target_id):
                    return f"moved from {source} to {to} in one step"
                async with self._frozen():
                    count = await self._migrated_by_key(source, to, target_id, primaries)
                    return f"moved from {source} to {to}: {count} keys, frozen meanwhile"
        except TimeoutError as error:
            raise self._failed(f"in {deadline_s:.0f} s") from error
        except (RedisError, OSError) as error:
            raise self._failed(str(error)) from error

    async def _stays(self, at: str, primaries: list[str]) -> str:
        """Where a move away was begun, none of its keys may have gone: they come back only after it is ended."""
        for other in (primary for primary in primaries if primary != at):
            if await self._client.ask(other, "CLUSTER", "COUNTKEYSINSLOT", self._slot):
                raise BadInput("TO", f"must be {other} first: some of the keys are there")
        await self._client.ask(at, "CLUSTER", "SETSLOT", self._slot, "STABLE")
        frozen = await self._client.execute_command("HEXISTS", self._shard, "frozen")
        return "it is there already" + (", and frozen: `fleet shard thaw` lets it go on" if frozen else "")

    def _failed(self, why: str) -> ServerUnavailable:
        then = "; its keys may be at both, so it stays frozen: repeat this until it succeeds" if self._divided else ""
        return ServerUnavailable(f"the hash slot {self._slot} did not move ({why}){then}")

    async def _migrated_by_server(self, source: str, target_id: str) -> bool:
        """Valkey 9 moves a hash slot while it serves it; False where the server does not know how."""
        asked = ("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", self._slot, self._slot, "NODE", target_id)
        try:
            before = await self._moves(source)
            await self._client.ask(source, *asked)
        except ResponseError as error:
            if "unknown subcommand" in str(error).lower():
                return False
            raise
        while True:
            states = [state for name, state in (await self._moves(source)).items() if name not in before]
            if "success" in states:
                return True
            if failed := {"failed", "canceled"}.intersection(states):
                raise ServerUnavailable(f"the server gave up: {' '.join(failed)}")
            await asyncio.sleep(POLL_S)

    async def _moves(self, source: str) -> dict[str, str]:
        """The states of the moves that the source knows, by their names."""
        told: list[Any] = await self._client.ask(source, "CLUSTER", "GETSLOTMIGRATIONS")
        return {_field(move, "name"): _field(move, "state") for move in told}

    @asynccontextmanager
    async def _frozen(self) -> AsyncIterator[None]:
        try:
            # within: it may be frozen also where the answer was lost
            await self._functions.shard_freeze("freeze")
            yield
        finally:
            if not self._divided:
                await self._thaw()

    async def _thaw(self) -> None:
        end = time.monotonic() + THAW_S
        while True:
            try:
                await self._functions.shard_freeze("thaw")
                break
            except ServerUnavailable:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(POLL_S)

    async def _migrated_by_key(self, source: str, to: str, target_id: str, primaries: list[str]) -> int:
        """The way of all versions. Nothing changes in the shard meanwhile, so no call meets half of it."""
        source_id = (await self._client.ask(source, "CLUSTER", "MYID")).decode()
        await self._client.ask(to, "CLUSTER", "SETSLOT", self._slot, "IMPORTING", source_id)
        # from here on each key that is not there is looked for at the other
        self._divided = True
        await self._client.ask(source, "CLUSTER", "SETSLOT", self._slot, "MIGRATING", target_id)
        host, _, port = to.rpartition(":")
        login = ("AUTH2", *self._credentials) if self._credentials else ()
        count = 0
        while keys := await self._client.ask(source, "CLUSTER", "GETKEYSINSLOT", self._slot, KEYS_MAX):
            # a key of which the answer was lost is at both: that of the source counts
            await self._client.ask(source, "MIGRATE", host, port, "", 0, MIGRATE_MS, "REPLACE", *login, "KEYS", *keys)
            count += len(keys)
        # the new owner first: should this end here, nobody refuses the slot
        for primary in (to, source, *(other for other in primaries if other not in {to, source})):
            await self._client.ask(primary, "CLUSTER", "SETSLOT", self._slot, "NODE", target_id)
        self._divided = False
        return count


def _field(fields: Any, name: str) -> str:
    pairs = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
    value = pairs.get(name.encode(), pairs.get(name, b""))
    return value.decode() if isinstance(value, bytes) else str(value)
