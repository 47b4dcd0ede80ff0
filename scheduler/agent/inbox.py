"""Takes deliveries and cancels from the node's inbox, in order, and gives them to the hands."""

import asyncio

from scheduler.agent.retrying import insist
from scheduler.agent.running import Hands
from scheduler.store.inbox import InboxReader

BLOCK_MS = 1_000


class Taker:
    """Reads on from where it is; a new incarnation has a new inbox, which is read from its beginning."""

    def __init__(self, reader: InboxReader, hands: Hands) -> None:
        self._reader = reader
        self._hands = hands
        self._position = "0"
        self._turn = 0
        self._registered = asyncio.Event()

    def pause(self) -> None:
        """There is no incarnation now: what a read under way returns is dropped, to be read again."""
        self._turn += 1
        self._registered.clear()

    def restart(self) -> None:
        """A new incarnation: begin at the beginning."""
        self._turn += 1
        self._position = "0"
        self._registered.set()

    async def take_for_ever(self) -> None:
        while True:
            await self._registered.wait()
            await self._take(BLOCK_MS)

    async def catch_up(self) -> None:
        """Take what is there already, without waiting for more."""
        while await self._take(1):
            pass

    async def _take(self, block_ms: int) -> bool:
        turn, position = self._turn, self._position
        deliveries = await insist(lambda: self._reader.after(position, block_ms))
        if turn != self._turn:
            return False
        for delivery in deliveries:
            self._position = delivery.position
            if delivery.kind == "cancel":
                self._hands.cancel(delivery.job, delivery.fence)
            elif delivery.kind == "job":
                self._hands.take(delivery.job, delivery.fence)
        return bool(deliveries)
