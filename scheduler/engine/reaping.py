"""The janitor: every replica reaps a little, so that it goes on when all but one are gone."""

import asyncio
import logging
import random

from scheduler.errors import FleetError
from scheduler.store.functions import Functions

log = logging.getLogger("fleet.engine")
TURN = 32
TURNS_MAX = 16


async def reap_for_ever(functions: Functions, reap_ms: int) -> None:
    """Reap every reap_ms with a jitter; a turn that found all it may take is followed by another at once."""
    while True:
        for _ in range(TURNS_MAX):
            try:
                reaped = await functions.reap(TURN)
            except FleetError:
                break
            except Exception:
                log.exception("reap_failed")
                break
            if max(reaped.nodes, reaped.leases, reaped.jobs) < TURN:
                break
        await asyncio.sleep(reap_ms / 1000 * random.uniform(0.8, 1.2))
