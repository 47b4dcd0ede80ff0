"""How many placements may be under way in a replica; what comes while as many are is refused at once."""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")
# A burst may be as large as this: a replica that does nothing else decides so many within a quarter of a second.
BURST_MAX = 1_024
# Under a flood each turn of the loop is long, for it answers all that came, and a placement needs several turns. Then
# twice of what the calls under way carry keeps Redis busy, and more would only be late: at three times saturation a
# bound of 128 placed 1,000 to 1,600 a second, one of 1,024 placed 96, because their answers came after the deadline.
FLOOD_MAX = 128
# A turn of the loop that is longer than this means a flood, if anything is refused. It is over after a second without
# a refusal, or, where a steady load is refused for nothing but the bound, after ten with a loop that is in time.
_LAG_S, _LOOK_S, _CALM_LOOKS, _PROMPT_LOOKS = 0.05, 0.05, 20, 200


class Door:
    """Counts placements and those turned away, and watches how late the loop is."""

    def __init__(self) -> None:
        self.under_way = 0
        self.refused = 0
        self._most = BURST_MAX
        self._known = self._calm = self._prompt = 0

    @property
    def shut(self) -> bool:
        return self.under_way >= self._most

    def saw(self, lag_s: float) -> None:
        """A timer came so late."""
        self._calm = self._calm + 1 if self.refused == self._known else 0
        self._prompt = self._prompt + 1 if lag_s <= _LAG_S else 0
        if self._calm >= _CALM_LOOKS or self._prompt >= _PROMPT_LOOKS:
            self._most = BURST_MAX
        elif lag_s > _LAG_S and not self._calm:
            self._most = FLOOD_MAX
        self._known = self.refused

    async def watch(self) -> None:
        """Look for ever how late timers come."""
        while True:
            due = time.monotonic() + _LOOK_S
            await asyncio.sleep(_LOOK_S)
            self.saw(time.monotonic() - due)

    async def passed(self, placement: Awaitable[T]) -> T:
        """The placement, counted while it is under way."""
        self.under_way += 1
        try:
            return await placement
        finally:
            self.under_way -= 1
