"""What tenants may have and have: their rows in one shard, and the slots and waiting jobs that count against them."""

from collections.abc import Sequence

import msgspec

from scheduler.domain.ids import Tenant
from scheduler.domain.tenants import Quotas, TenantView, quota_of
from scheduler.store.functions import Functions
from scheduler.store.keys import queue_key, tenant_leases_key, tenants_key, waiting_key
from scheduler.store.views import Views


class TenantReads(Views):
    """Reads of one shard about its tenants."""

    @classmethod
    def beside(cls, functions: Functions) -> "TenantReads":
        return cls(functions.client, functions.shard)

    async def quotas(self) -> Quotas:
        """All rows and their version, which is read first: it is never too new."""
        version, held = await self._pipeline(
            [("HGET", self._shard, "tenants_version"), ("HGETALL", tenants_key(self._shard))]
        )
        return Quotas(int(version or 0), {name.decode(): quota_of(text) for name, text in held.items()})

    async def leases(self, tenant: Tenant) -> int:
        """The slots that the tenant occupies here."""
        ((count),) = await self._pipeline([("ZCARD", tenant_leases_key(self._shard, tenant))])
        return int(count)

    async def queues(self) -> dict[str, list[str]]:
        """The names of the queues by tenant."""
        (names,) = await self._pipeline([("HKEYS", waiting_key(self._shard))])
        found: dict[str, list[str]] = {}
        for name in sorted(raw.decode() for raw in names):
            found.setdefault(name.partition(":")[2], []).append(name)
        return found

    async def usage(self, tenants: Sequence[str], queues: dict[str, list[str]]) -> dict[str, tuple[int, int]]:
        """Of each tenant its leases and its waiting jobs here."""
        commands: list[tuple[str | int, ...]] = []
        for tenant in tenants:
            commands.append(("ZCARD", tenant_leases_key(self._shard, tenant)))
            commands += [("ZCARD", queue_key(self._shard, queue)) for queue in queues.get(tenant, ())]
        answers = iter(await self._pipeline(commands) if commands else [])
        return {
            tenant: (int(next(answers)), sum(int(next(answers)) for _ in queues.get(tenant, ())))
            for tenant in tenants
        }


async def tenants_of_all(shards: Sequence[TenantReads], only: Tenant | None = None) -> tuple[int, list[TenantView]]:
    """The version of the rows, and with what it has in all shards each tenant that has a row or waits, or the one."""
    quotas = await shards[0].quotas()
    queues = [await shard.queues() for shard in shards]
    names = [only] if only is not None else sorted({*quotas.rows, *(name for held in queues for name in held)})
    counted = [await shard.usage(names, held) for shard, held in zip(shards, queues, strict=True)]
    return quotas.version, [
        TenantView(
            name,
            quotas.rows.get(name),
            quotas.of(name),
            sum(usage[name][0] for usage in counted),
            sum(usage[name][1] for usage in counted),
        )
        for name in names
    ]


def quotas_text(quotas: Quotas) -> str:
    """All rows as the JSON that tenants_apply takes."""
    return msgspec.json.encode(quotas.rows).decode()
