"""One node's life: register, heartbeat, take work, and leave in good order."""

import asyncio
import contextlib
import logging
import time

from scheduler.agent.config import NodeConfig
from scheduler.agent.meters import Meters
from scheduler.agent.running import Handler, Hands
from scheduler.errors import BadInput, FleetError
from scheduler.store.client import connect, connect_blocking
from scheduler.store.functions import Beat, Functions
from scheduler.store.inbox import InboxReader
from scheduler.store.keys import shard_key

BLOCK_MS = 1_000
LISTED_MAX = 1_000
log = logging.getLogger("fleet.agent")


class FencedOut(FleetError):
    """Another process has registered this node id; this one stops"""

    code = "fenced"


class Agent:
    """Runs one node until it is asked to leave. Redis may come and go meanwhile: handlers go on."""

    def __init__(
        self,
        config: NodeConfig,
        handler: Handler,
        redis_url: str,
        namespace: str = "fleet",
        meters: Meters | None = None,
    ) -> None:
        self.config = config
        shard = shard_key(namespace)
        self._client = connect(redis_url, connections=8, timeout_ms=2_000)
        self._blocking = connect_blocking(redis_url, block_ms=BLOCK_MS)
        self._functions = Functions(self._client, shard)
        self._inbox = InboxReader(self._blocking, shard, config.id)
        self._hands = Hands(self._functions, handler)
        self._meters = meters or Meters()
        self._incarnation: int | None = None
        self._position = "0"
        self._leave = asyncio.Event()
        self._fenced = asyncio.Event()
        self._registered = asyncio.Event()
        self._offered = config.capabilities
        self._rotation = 0

    @property
    def incarnation(self) -> int | None:
        """The present incarnation, or None before the first registration."""
        return self._incarnation

    def leave(self) -> None:
        """Ask for a graceful end: drain, hand back what is left, remove the node. `run` returns after it."""
        self._leave.set()

    def offer(self, capabilities: tuple[str, ...]) -> None:
        """Change what the node offers, from the next heartbeat on; services that are not ready are left out."""
        self._offered = capabilities  # type: ignore[assignment]

    async def run(self) -> None:
        """Serve until `leave`; raises FencedOut when another process takes the id, BadInput on a refused config."""
        tasks = [asyncio.create_task(self._beat_for_ever()), asyncio.create_task(self._take_for_ever())]
        endings = [asyncio.create_task(self._leave.wait()), asyncio.create_task(self._fenced.wait())]
        try:
            await asyncio.wait([*tasks, *endings], return_when=asyncio.FIRST_COMPLETED)
            if self._fenced.is_set():
                self._hands.abandon()
                raise FencedOut(self.config.id)
            for working in tasks:
                if working.done():
                    working.result()
            tasks[1].cancel()
            await self._depart(tasks[0])
        finally:
            self._hands.leaving = True
            for task in (*tasks, *endings):
                task.cancel()
            await asyncio.gather(*tasks, *endings, return_exceptions=True)
            await self._hands.settle(0)
            await self._client.aclose()
            await self._blocking.aclose()

    async def _depart(self, beating: "asyncio.Task[None]") -> None:
        """Drain within drain_ms while heartbeats go on, then take the node out; Redis may be away."""
        with contextlib.suppress(FleetError):
            await self._functions.node_mark(self.config.id, "drain", self.config.drain_ms)
        await self._hands.settle(self.config.drain_ms / 1000)
        beating.cancel()
        with contextlib.suppress(FleetError):
            if self._incarnation is not None:
                await self._functions.node_remove(self.config.id, self._incarnation)

    async def _register(self) -> None:
        self._hands.abandon()
        registered = await self._functions.node_register(
            self.config.id,
            endpoint=self.config.endpoint or f"inbox:{self.config.id}",
            slots=self.config.slots,
            capabilities=self._offered or self.config.capabilities,
            **self.config.registration(),
            **self._meters.read(),
        )
        self._incarnation, self._position = registered.incarnation, "0"
        self._registered.set()
        log.info("node_registered", extra={"node": self.config.id, "pools": registered.pools})

    async def _beat_for_ever(self) -> None:
        period, pause = self.config.heartbeat_ms / 1000, 0.05
        while not self._fenced.is_set():
            started = time.monotonic()
            try:
                if self._incarnation is None:
                    await self._register()
                else:
                    await self._beat(self._incarnation)
                pause = 0.05
            except BadInput:
                raise
            except FleetError as error:
                log.warning("redis_away", extra={"reason": str(error)})
                await asyncio.sleep(min(pause, period))
                pause *= 2
                continue
            await asyncio.sleep(max(period - (time.monotonic() - started), 0.001))

    async def _beat(self, incarnation: int) -> None:
        fields: dict[str, object] = {**self._meters.read(), "capabilities": " ".join(self._offered)}
        if listed := self._listed():
            fields["running"] = listed
        beat = await self._functions.node_heartbeat(self.config.id, incarnation, **fields)
        if isinstance(beat, Beat):
            for job, fence in beat.cancels:
                self._hands.cancel(job, fence)
        elif beat == "unknown":
            if not self._leave.is_set():
                await self._register()
        else:
            self._fenced.set()

    def _listed(self) -> str:
        """What runs, at most 1,000 a heartbeat; a longer list is shown in turns."""
        jobs = self._hands.listed()
        if len(jobs) > LISTED_MAX:
            self._rotation = (self._rotation + LISTED_MAX) % len(jobs)
            jobs = (jobs[self._rotation :] + jobs[: self._rotation])[:LISTED_MAX]
        return " ".join(f"{job} {fence}" for job, fence in jobs)

    async def _take_for_ever(self) -> None:
        await self._registered.wait()
        while True:
            incarnation = self._incarnation
            try:
                deliveries = await self._inbox.after(self._position, BLOCK_MS)
            except FleetError:
                await asyncio.sleep(0.1)
                continue
            if incarnation != self._incarnation:
                continue
            for delivery in deliveries:
                self._position = delivery.position
                if delivery.kind == "cancel":
                    self._hands.cancel(delivery.job, delivery.fence)
                else:
                    self._hands.take(delivery.job, delivery.fence)
