"""Calls that are repeated until Redis takes them, with a bounded pause between."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from scheduler.errors import LibraryMismatch, ServerUnavailable

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
# A server that came back empty lacks the library until somebody loads it.
AWAY = (ServerUnavailable, LibraryMismatch)
T = TypeVar("T")


async def insist(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call that is safe to repeat for as long as Redis is away; the caller's cancellation ends it."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return await call()
        except AWAY:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
