"""The configuration of pools is the first shard's; every other shard decides by a copy of it."""

import asyncio
from collections.abc import Sequence

from scheduler.domain.configuration import configuration_text
from scheduler.store.functions import Functions
from scheduler.store.views import Views


async def copy_configuration(first: Views, others: Sequence[Functions]) -> int:
    """Bring the first shard's present configuration to the others; returns its version.

    ServerUnavailable where one does not take it: the others have it then, and it may be done again.
    """
    version, configuration = await first.configuration()
    if version and others:
        text = configuration_text(configuration)
        done = await asyncio.gather(
            *(functions.pools_apply(0, text, version) for functions in others), return_exceptions=True
        )
        for failure in done:
            if isinstance(failure, BaseException):
                raise failure
    return version
