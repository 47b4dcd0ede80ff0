"""The events of all shards as one stream, which a client can resume where it left each of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from scheduler.engine.shard import Shard
from scheduler.engine.subscription import Gap, Subscription, Wanted
from scheduler.store.events import START, Event, checked_position

# Batches that wait for a client between the shards' own queues and its connection.
AHEAD_MAX = 4
Told = tuple[str, Event | Gap]


def positions_of(field: str, text: str, tags: Sequence[str]) -> dict[str, str]:
    """Where to go on in each shard, from `<tag>:<position>,…` or one position for all; BadInput names the field.

    A shard that the text does not name goes on from now.
    """
    if ":" not in text:
        return dict.fromkeys(tags, checked_position(field, text))
    pairs = (part.partition(":") for part in text.split(",")[: len(tags)])
    named = {tag: checked_position(field, position) for tag, _, position in pairs}
    return {tag: position for tag, position in named.items() if tag in tags}


class Stream:
    """One client's events. Each comes with the id under which the client resumes behind it."""

    def __init__(
        self, shards: Sequence[Shard], subscriptions: Sequence[Subscription], positions: dict[str, str]
    ) -> None:
        self._parts = dict(zip(shards, subscriptions, strict=True))
        self._positions = positions
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, shards: Sequence[Shard], wanted: Wanted) -> "Stream":
        """From now on, for the caller to close; Overrun where there are enough clients."""
        opened: list[Subscription] = []
        positions = {shard.tag: START for shard in shards}
        if len(shards) > 1:
            # an id names each shard, also one of which nothing was told: not by an event that was somebody else's
            instants = await asyncio.gather(*(shard.views.now_ms() for shard in shards))
            positions = {shard.tag: f"{ms - 1}-0" for shard, ms in zip(shards, instants, strict=True)}
        try:
            for shard in shards:
                opened += [await shard.fanout.open(wanted)]
        except BaseException:
            for shard, subscription in zip(shards, opened, strict=False):
                shard.fanout.close(subscription)
            raise
        return cls(shards, opened, positions)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for shard, subscription in self._parts.items():
            shard.fanout.close(subscription)

    def end(self) -> None:
        """The client is told no more; what it has not taken yet is lost to it."""
        for subscription in self._parts.values():
            subscription.end()

    async def told(self, after: dict[str, str]) -> AsyncIterator[list[Told]]:
        """What the client is to hear; in order within each shard. Ends with the first shard's stream that ends."""
        self._positions |= after
        if len(self._parts) == 1:
            ((shard, subscription),) = self._parts.items()
            async for batch in shard.fanout.told(subscription, after.get(shard.tag)):
                yield [self._named(shard.tag, told) for told in batch]
            return
        queue: asyncio.Queue[tuple[str, list[Event | Gap]] | BaseException | None] = asyncio.Queue(AHEAD_MAX)
        for shard, subscription in self._parts.items():
            self._tasks.append(asyncio.create_task(_fill(queue, shard, subscription, after.get(shard.tag))))
        while (batch_of := await queue.get()) is not None:
            if isinstance(batch_of, BaseException):
                raise batch_of
            tag, batch = batch_of
            yield [self._named(tag, told) for told in batch]

    def _named(self, tag: str, told: Event | Gap) -> Told:
        if isinstance(told, Gap):
            return "", told
        self._positions[tag] = told.position
        if len(self._positions) == 1:
            return told.position, told
        return ",".join(f"{name}:{position}" for name, position in self._positions.items()), told


async def _fill(
    queue: "asyncio.Queue[tuple[str, list[Event | Gap]] | BaseException | None]",
    shard: Shard,
    subscription: Subscription,
    after: str | None,
) -> None:
    end: BaseException | None = None
    try:
        async for batch in shard.fanout.told(subscription, after):
            await queue.put((shard.tag, batch))
    except Exception as error:  # noqa: BLE001 - it is raised where the client is served
        end = error
    await queue.put(end)
