"""The configuration of pools is the first shard's; every other shard decides by a copy of it."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import msgspec

from scheduler.domain.configuration import configuration_text
from scheduler.domain.views import PoolView
from scheduler.store.functions import Functions
from scheduler.store.views import Views


async def pools_of_all(shards: Sequence[Views]) -> tuple[int, list[PoolView]]:
    """The first shard's config_version, and every pool by name with its members in all shards."""
    told = await asyncio.gather(*(views.pools() for views in shards))
    found: dict[str, PoolView] = {}
    members: Counter[str] = Counter()
    free: Counter[str] = Counter()
    for _, pools in told:
        for pool in pools:
            found.setdefault(pool.name, pool)
            members[pool.name] += pool.members
            free[pool.name] += pool.free
    return told[0][0], [
        msgspec.structs.replace(found[name], members=members[name], free=free[name]) for name in sorted(found)
    ]


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
