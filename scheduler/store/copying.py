"""The configuration of pools and tenants is the first shard's; every other shard decides by a copy of it."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence

import msgspec

from scheduler.domain.configuration import configuration_text
from scheduler.domain.ids import PoolName
from scheduler.domain.tenants import Quotas
from scheduler.domain.views import PoolView
from scheduler.errors import BadInput, ServerUnavailable
from scheduler.store.functions import Applied, Functions
from scheduler.store.tenants import TenantReads, quotas_text
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


async def restore_configuration(first: Views, functions: Functions, other: Views, source: int) -> None:
    """Where the first shard forgot a change of which another has a copy, that of version `source`, it takes it back.

    An emptied server or a failover may forget. A tenant that was shut out stays shut out, and all shards agree again.
    """
    version, _ = await first.configuration()
    if version < source:
        _, configuration = await other.configuration()
        await functions.pools_apply(version, configuration_text(configuration))


async def restore_tenants(first: Functions, other: Functions, source: int) -> None:
    """The same for the quotas of tenants."""
    held = await TenantReads.beside(first).quotas()
    if held.version < source:
        await first.tenants_apply(held.version, quotas_text(await TenantReads.beside(other).quotas()))


async def remove_pool(functions: Functions, shards: Sequence[Views], pool: PoolName) -> bool:
    """Take the pool out of the first shard's configuration, which is to be copied then; whether it was there.

    An automatic pool is known to the shards of its nodes only: BadInput says of it what they would say.
    """
    if await functions.pool_remove(pool) == "removed":
        return True
    _, pools = await pools_of_all(shards)
    if any(known.name == pool and known.languages for known in pools):
        raise BadInput("pool", "is automatic: it goes with its last node")
    return False


async def copy_configuration(first: Functions, others: Sequence[Functions]) -> None:
    """Bring the first shard's present configuration to the others.

    ServerUnavailable where one does not take it: the others have it then, and it may be done again.
    """
    if others:
        # first who is limited, then who is served: a new shard serves nobody without a limit
        await copy_tenants(first, others)
        version, configuration = await Views(first.client, first.shard).configuration()
        if version:
            text = configuration_text(configuration)
            await _by_all(functions.pools_apply(0, text, version) for functions in others)


async def copy_tenants(first: Functions, others: Sequence[Functions]) -> None:
    """The same for the quotas of tenants alone."""
    quotas = await TenantReads.beside(first).quotas() if others else Quotas()
    if quotas.version:
        text = quotas_text(quotas)
        await _by_all(functions.tenants_apply(0, text, quotas.version) for functions in others)


async def _by_all(calls: Iterable[Awaitable[Applied]]) -> None:
    for failure in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(failure, ServerUnavailable):
            raise ServerUnavailable(
                f"it is stored, but a shard that does not answer decides by the old ones till then: {failure}"
            ) from failure
        if isinstance(failure, BaseException):
            raise failure
