"""One running replica without HTTP: its connections, background tasks and everything a route may ask of it."""

import asyncio
import logging

from scheduler import tracing
from scheduler.domain.ids import Tenant
from scheduler.domain.job import JobRequest
from scheduler.domain.tenants import Quota
from scheduler.engine.configuring import Configured
from scheduler.engine.dispatch import Verdict
from scheduler.engine.door import Door
from scheduler.engine.fleet import Fleet
from scheduler.engine.keyring import Keyring
from scheduler.engine.locating import Located
from scheduler.engine.moving import Mover
from scheduler.engine.shard import Shard
from scheduler.engine.shards import Shards
from scheduler.engine.spreading import Spreader
from scheduler.engine.stories import Stories
from scheduler.errors import FleetError, LibraryMismatch, ServerUnavailable
from scheduler.logs import Line
from scheduler.settings import Settings
from scheduler.store.apikeys import ApiKeys
from scheduler.store.client import connect
from scheduler.store.copying import copy_configuration
from scheduler.store.layout import FIRST, read_tags
from scheduler.store.library import check_library, read_library
from scheduler.store.rates import Rates

log = logging.getLogger("fleet.engine")


class Parts:
    """What a replica is made of once it knows the fleet's shards."""

    def __init__(self, shards: Shards, settings: Settings) -> None:
        self.shards = shards
        self.spreader = Spreader(shards, settings.deadline_ms)
        self.jobs = Located(shards, settings.deadline_ms)
        self.fleet = Fleet(shards)
        self.pools = Configured(shards, settings.refresh_ms)
        self.stories = Stories(shards)
        self.mover = Mover(shards)


class Engine:
    """Start it, ask it, stop it. It can be killed at any line: what it holds is a copy or a wish."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.library = read_library()
        self._client = connect(
            settings.redis_url, connections=settings.redis_connections, timeout_ms=settings.redis_timeout_ms
        )
        # every fleet has this one, and it knows the others
        self.first = Shard(settings, self._client, FIRST, self.library)
        self.keyring = Keyring(ApiKeys(self._client, self.first.key), settings.auth, settings.refresh_ms)
        self.door = Door()
        self.rates = Rates(self._client, self.first.key)
        self._parts: Parts | None = None
        self._known = asyncio.Event()
        self._failure: FleetError | None = ServerUnavailable("which shards there are has not been asked yet")
        self._said_ready = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards that are known by now."""
        return tuple(self._parts.shards) if self._parts else (self.first,)

    async def start(self) -> None:
        """Begin to follow Redis; returns at once, also while Redis is down."""
        tracing.look()
        self.first.start()
        self._tasks = [
            asyncio.create_task(self._check_for_ever()),
            asyncio.create_task(self.door.watch()),
            asyncio.create_task(self.keyring.run()),
        ]

    async def stop(self) -> None:
        """End the background tasks and close the connections; claims under way are answered first."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.keyring.close()
        await asyncio.gather(*(shard.stop() for shard in self.shards))
        if self._parts:
            await self._parts.spreader.close()
        await self._client.aclose()

    async def _check_for_ever(self) -> None:
        """Verify shards and library at the start, and again each second, for a server may come back without them."""
        while True:
            await self._check_layout()
            await asyncio.gather(*(self._check_library(shard) for shard in self.shards))
            self._say()
            calm = self._failure is None and all(shard.checked is None for shard in self.shards)
            await asyncio.sleep(1.0 if calm else 0.1)

    def _say(self) -> None:
        """Log each change between ready and not; what stands in the way may change meanwhile."""
        obstacle = self.obstacle()
        if self._said_ready == (obstacle is None):
            return
        self._said_ready = obstacle is None
        if obstacle is None:
            log.info(Line("replica_ready"))
        else:
            log.warning(Line("replica_unready", why=obstacle))

    async def _check_library(self, shard: Shard) -> None:
        try:
            await check_library(self._client, shard.key, self.library)
            shard.checked = None
        except FleetError as error:
            shard.checked = error
        except Exception as error:  # noqa: BLE001 - this task must outlive whatever a server may answer
            shard.checked = ServerUnavailable(str(error))

    async def _check_layout(self) -> None:
        try:
            if self._parts is None:
                self._begin(await read_tags(self._client, self.first.key) or (FIRST,))
            else:
                await self._keep_layout(self._parts.shards)
            self._failure = None
        except FleetError as error:
            # a shard that does not answer stops no other one
            if self._parts is None or not isinstance(error, ServerUnavailable):
                self._failure = error
        except Exception as error:  # noqa: BLE001 - as above
            self._failure = ServerUnavailable(str(error))

    def _begin(self, tags: tuple[str, ...]) -> None:
        if self._parts is not None:
            return
        others = [Shard(self.settings, self._client, tag, self.library) for tag in tags if tag != FIRST]
        for shard in others:
            shard.start()
        parts = Parts(Shards((self.first, *others)), self.settings)
        self._tasks += [asyncio.create_task(parts.mover.run()), asyncio.create_task(parts.pools.keep())]
        self._parts = parts
        self._known.set()

    async def _keep_layout(self, shards: Shards) -> None:
        """A shard that was emptied is told again which there are; a fleet divided anew needs a new replica."""
        told = await asyncio.gather(*(self._told(shard, shards.tags) for shard in shards), return_exceptions=True)
        for tags in told:
            if isinstance(tags, BaseException):
                if not isinstance(tags, ServerUnavailable):
                    raise tags
            elif tags != shards.tags:
                raise LibraryMismatch(
                    f"the fleet has {len(tags)} shards now, this replica was started with {len(shards)}: restart it"
                )

    async def _told(self, shard: Shard, known: tuple[str, ...]) -> tuple[str, ...]:
        """Which shards there are, by this one; a fleet that nobody has divided has one and need not say so."""
        tags = await read_tags(self._client, shard.key)
        if tags or len(known) == 1:
            return tags or known
        # with the pools first: nodes are let in once it is told
        await copy_configuration(self.first.functions, [] if shard is self.first else [shard.functions])
        word, held = await shard.functions.shard_init(known, restore=True)
        return tuple(held.split()) if word == "other" else known

    @property
    def parts(self) -> Parts:
        """Raises ServerUnavailable while it is not known which shards there are."""
        if self._parts is None:
            raise self._failure or ServerUnavailable("which shards there are is not known yet")
        return self._parts

    async def known(self) -> Parts:
        """The parts, as soon as there are any, within the deadline of a placement."""
        if self._parts is None:
            await self._check_layout()
        if self._parts is None:
            try:
                await asyncio.wait_for(self._known.wait(), self.settings.deadline_ms / 1000)
            except TimeoutError:
                return self.parts
        return self.parts

    @property
    def has_quotas(self) -> bool:
        """Whether any tenant is limited, as far as this replica knows."""
        return bool(self.first.mirror.quotas.rows)

    def quota(self, tenant: Tenant) -> Quota:
        """What the tenant may have at most, as far as this replica knows."""
        return self.first.mirror.quotas.of(tenant)

    def obstacle(self) -> str | None:
        """Why this replica should get no requests now, or None: it has seen every shard and can place in one."""
        if self._failure is not None:
            return str(self._failure)
        obstacles = [shard.obstacle() for shard in self.shards]
        starting = any(shard.starting for shard in self.shards)
        return next(filter(None, obstacles)) if starting or None not in obstacles else None

    async def place(self, request: JobRequest) -> Verdict:
        """Claim a slot, or say why not, within settings.deadline_ms; then raises ServerUnavailable."""
        parts = self._parts or await self.known()
        if isinstance(self._failure, LibraryMismatch):
            raise self._failure
        if isinstance(self.first.checked, LibraryMismatch):
            raise self.first.checked
        return await self.door.passed(parts.spreader.place(request))

    @property
    def moved(self) -> dict[str, int]:
        """Jobs that this replica brought into another shard than they were in, or than their ids lead to."""
        parts = self._parts
        return {"placed": parts.spreader.moved if parts else 0, "waiting": parts.mover.moved if parts else 0}

    def release(self) -> None:
        """Answer the long polls and end the event streams now, because the replica is about to stop."""
        for shard in self.shards:
            shard.release()
