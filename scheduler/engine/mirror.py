"""The task that keeps the snapshot fresh: pages of what changed, and a refill where continuity is broken."""

import asyncio
import random
import time

from scheduler.domain.node import Shape
from scheduler.domain.tenants import Quotas, quota_of
from scheduler.engine.growing import Growing
from scheduler.placement.snapshot import Snapshot
from scheduler.store.codec import Truths
from scheduler.store.functions import Functions

EPOCH_GRACE_MS = 10_000
# How often the shard is asked for its numbers too: they cost Redis more than news of nodes.
TRUTHS_S = 1.0


class Mirror:
    """Holds the current snapshot. `refresh` may be called by anyone; those who wait share a run."""

    def __init__(self, functions: Functions, refresh_ms: int) -> None:
        self.snapshot = Snapshot()
        self.filled = False
        self.failure: Exception | None = None
        self._functions = functions
        self._refresh_ms = refresh_ms
        self._refreshed_at = 0.0
        self._epoch_changed_at = float("-inf")
        self._history = ""
        # queues of this shard, and which version of the first shard's pools it has a copy of
        self.waiting = 0
        self.config_source = 0
        # the shard in numbers; none of them is older than the snapshot by more than a second
        self.truths: Truths | None = None
        self._truths_at = float("-inf")
        # the same for what tenants may have
        self.quotas = Quotas()
        self.tenants_source = 0
        self._shapes: dict[tuple[str, str], Shape] = {}
        self._running: asyncio.Task[None] | None = None

    @property
    def age_ms(self) -> int:
        """Since the snapshot was last known to be complete."""
        return int((time.monotonic() - self._refreshed_at) * 1000)

    @property
    def epoch_is_new(self) -> bool:
        """Redis was emptied, or may have forgotten some, a moment ago: nodes are still coming back, so nothing is
        impossible yet.
        """
        return (time.monotonic() - self._epoch_changed_at) * 1000 < EPOCH_GRACE_MS

    async def run(self) -> None:
        """Refresh for ever, every refresh_ms with a jitter that keeps replicas from marching in step."""
        while True:
            try:
                await self.refresh()
                self.failure = None
            except Exception as error:  # noqa: BLE001 - whatever it was, the next turn tries again and readyz tells
                self.failure = error
            await asyncio.sleep(self._refresh_ms / 1000 * random.uniform(0.8, 1.2))

    async def refresh(self) -> None:
        """Bring the snapshot to Redis's present version."""
        under_way = self._running
        if under_way is not None and not under_way.done():
            # it may have read before what the caller has heard of
            await asyncio.shield(under_way)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._refresh())
        await asyncio.shield(self._running)

    async def close(self) -> None:
        """End the refresh that is under way, which nobody may be waiting for any more."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _refresh(self) -> None:
        started = time.monotonic()
        cursor = complete = self.snapshot.version
        epoch, history = self.snapshot.epoch, self._history
        config: int | None = self.snapshot.config_version if self.filled else None
        # tombstones up to this version are known: those before what is complete, or those gone when a fill began
        floor: int | None = complete or None
        growing = Growing(self.snapshot, self._shapes)
        truths = None if started - self._truths_at >= TRUTHS_S else self.truths
        while True:
            page = await self._functions.mirror_read(
                cursor, complete, config, self.quotas.version, truths=truths is None
            )
            truths = page.truths or truths
            floor = page.floor if floor is None else floor
            # a version may have gone back and on again unseen, where a failover or a restart forgot some
            same = page.epoch == epoch and page.history == history
            reached = int(page.nodes[-1][1]) if page.nodes else page.version
            last = reached >= page.version
            known = same and page.version >= cursor and page.floor <= floor
            if not known or not growing.take(page, last=last):
                if self.filled and (page.epoch != self.snapshot.epoch or page.history != self._history):
                    self._epoch_changed_at = time.monotonic()
                self._shapes = {}
                growing = Growing(Snapshot(epoch=page.epoch), self._shapes)
                cursor, complete, config, floor = 0, 0, None, None
                epoch, history = page.epoch, page.history
                if page.version == 0 and page.config_version == 0:
                    break
                continue
            config, cursor = page.config_version, reached
            if last:
                break
        self.snapshot, self._history = growing.snapshot, history
        self.waiting, self.config_source = page.waiting, page.config_source
        if truths is not self.truths:
            self.truths, self._truths_at = truths, started
        self.tenants_source = page.tenants_source
        if page.tenants is not None:
            rows = {name: quota_of(text) for name, text in page.tenants.items()}
            self.quotas = Quotas(page.tenants_version, rows)
        self._refreshed_at = started
        self.filled = True
