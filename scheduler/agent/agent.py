"""One node's life: register, heartbeat, take work, and leave in good order."""

import asyncio
import contextlib
import dataclasses
import logging
import time

from scheduler import tracing
from scheduler.agent.config import NodeConfig
from scheduler.agent.inbox import BLOCK_MS, Taker
from scheduler.agent.job import Handler
from scheduler.agent.meters import Meters
from scheduler.agent.retrying import AWAY, FIRST_PAUSE_S, LONGEST_PAUSE_S, insist
from scheduler.agent.running import GRACE_S, Hands
from scheduler.domain.ids import Token
from scheduler.domain.services import Service
from scheduler.domain.shards import home_tag
from scheduler.errors import FleetError
from scheduler.logs import Line, bind
from scheduler.store.client import connect, connect_blocking
from scheduler.store.functions import Beat, Functions
from scheduler.store.inbox import InboxReader
from scheduler.store.keys import shard_key
from scheduler.store.layout import FIRST, read_tags

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
        self._namespace, self._handler = namespace, handler
        self._client = connect(redis_url, connections=8, timeout_ms=2_000)
        # Heartbeats must not queue behind results.
        # one unanswered heartbeat must leave time for another within the TTL
        beat_ms = max(50, min(2_000, (config.ttl_ms - config.heartbeat_ms) // 3))
        self._beat_client = connect(redis_url, connections=2, timeout_ms=beat_ms)
        self._blocking = connect_blocking(redis_url, block_ms=BLOCK_MS)
        self._connect(FIRST)
        self._meters = meters or Meters()
        self._incarnation: int | None = None
        self._told = config.offered
        self._away = False
        self._leave = asyncio.Event()

    def _connect(self, tag: str) -> None:
        """The node's shard is the one that its id leads to, and there is its inbox."""
        shard = shard_key(self._namespace, tag)
        self._functions = Functions(self._beat_client, shard)
        self._hands = Hands(Functions(self._client, shard), self._handler, self.config.slots, self.config.id)
        self._taker = Taker(InboxReader(self._blocking, shard, self.config.id), self._hands)

    async def _find_shard(self) -> None:
        tags = await insist(lambda: read_tags(self._client, shard_key(self._namespace, FIRST)))
        if len(tags) > 1:
            self._connect(home_tag(tags, self.config.id))

    @property
    def incarnation(self) -> int | None:
        """The present incarnation, or None while it is not registered."""
        return self._incarnation

    def leave(self) -> None:
        """Ask for a graceful end: drain, hand back what is left, remove the node. `run` returns after it."""
        self._leave.set()

    def offer(
        self, capabilities: tuple[Token, ...] | None = None, services: tuple[Service, ...] | None = None
    ) -> None:
        """Change what the node offers, from the next heartbeat on; None leaves its part as it is.

        Services that are not ready are left out of the offer; BadInput where nothing would be left of it.
        """
        self.config = dataclasses.replace(
            self.config,
            capabilities=self.config.capabilities if capabilities is None else capabilities,
            services=self.config.services if services is None else services,
        )

    async def run(self) -> None:
        """Serve until `leave`; raises FencedOut when another process takes the id, BadInput on a refused config."""
        bind(node=self.config.id)
        tracing.look()
        finding = asyncio.create_task(self._find_shard())
        leaving = asyncio.create_task(self._leave.wait())
        tasks: list[asyncio.Task[object]] = [finding, leaving]
        try:
            await _first(tasks)
            if finding.done():
                taking = asyncio.create_task(self._taker.take_for_ever())
                tasks = [asyncio.create_task(self._beat_for_ever()), taking, leaving]
                await _first(tasks)
                tasks[2] = asyncio.create_task(self._depart())
                await _first(tasks)
        except FencedOut:
            self._incarnation = None
            self._hands.abandon()
            raise
        finally:
            if len(tasks) > 2:
                # nothing new is taken in hand while the rest is settled
                tasks[1].cancel()
                await asyncio.gather(tasks[1], return_exceptions=True)
            await self._hands.settle(0)
            await self._hands.deliver()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._remove()
            for client in (self._client, self._beat_client, self._blocking):
                await client.aclose()

    async def _depart(self) -> None:
        """Drain within drain_ms while heartbeats go on; Redis may be away."""
        self._hands.close()
        marking = asyncio.create_task(self._mark_draining())
        try:
            await self._hands.settle(self.config.drain_ms / 1000)
            # Until it is marked, claims go on; leaving before that would lose them.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(marking), GRACE_S)
        finally:
            marking.cancel()

    async def _mark_draining(self) -> None:
        """Let nobody claim this node any more, then hand back what had been delivered before that and not read."""
        if self._incarnation is None:
            return
        # The mark goes by id: the process that was started to replace this one must not be drained by it.
        incarnation = self._incarnation
        await insist(lambda: self._beat(incarnation))
        await insist(lambda: self._functions.node_mark(self.config.id, "drain", self.config.drain_ms))
        await self._taker.catch_up()

    async def _remove(self) -> None:
        with contextlib.suppress(FleetError):
            if self._incarnation is not None:
                log.info(Line("node_left", node=self.config.id))
                await self._functions.node_remove(self.config.id, self._incarnation)

    async def _register(self) -> None:
        # Forget the old incarnation first: should the reply be lost, its heartbeat would be fenced by ourselves.
        self._incarnation = None
        self._taker.pause()
        self._hands.abandon()
        offered = self.config.offered
        registered = await self._functions.node_register(
            self.config.id,
            endpoint=self.config.endpoint or f"inbox://{self.config.id}",
            slots=self.config.slots,
            capabilities=offered,
            **self.config.registration(),
            **self._meters.read(),
        )
        self._incarnation, self._told = registered.incarnation, offered
        if not self._leave.is_set():
            self._hands.open()
        self._taker.restart()
        log.info(Line("node_registered", node=self.config.id, pools=" ".join(registered.pools)))

    async def _beat_for_ever(self) -> None:
        period_s, pause_s = self.config.heartbeat_ms / 1000, FIRST_PAUSE_S
        while True:
            started = time.monotonic()
            try:
                if self._incarnation is not None:
                    await self._beat(self._incarnation)
                elif not self._leave.is_set():
                    await self._register()
            except AWAY as error:
                if not self._away:
                    log.warning(Line("redis_away", node=self.config.id, error=str(error)))
                self._away = True
                # Redis counts a second of an outage: a whole period on top of it could be more than the TTL has left
                await asyncio.sleep(min(pause_s, period_s / 2))
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                continue
            if self._away:
                log.warning(Line("redis_back", node=self.config.id))
            self._away, pause_s = False, FIRST_PAUSE_S
            await asyncio.sleep(max(period_s - (time.monotonic() - started), 0.001))

    async def _beat(self, incarnation: int) -> None:
        offered, fields = self.config.offered, self._meters.read()
        if offered != self._told:
            fields["capabilities"] = " ".join(offered)
        if listed := self._hands.listed():
            fields["running"] = listed
        beat = await self._functions.node_heartbeat(self.config.id, incarnation, **fields)
        if beat == "fenced":
            raise FencedOut(self.config.id)
        if isinstance(beat, Beat):
            if beat.refused is None:
                self._told = offered
            self._obey(beat)
        elif not self._leave.is_set():
            await self._register()

    def _obey(self, beat: Beat) -> None:
        for job, fence in beat.cancels:
            self._hands.cancel(job, fence)
        if self._leave.is_set():
            return
        if beat.drain_ms is None:
            self._hands.open()
            return
        self._hands.close()
        if beat.drain_ms == 0:
            self._hands.hand_back()


async def _first(tasks: "list[asyncio.Task[object]]") -> None:
    """Wait until one of them ends; raise what it raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
