"""Parts of quotas that go from shards in which a tenant does not use them to one in which it needs them."""

import asyncio

from scheduler.domain.ids import Tenant
from scheduler.domain.tenants import QuotaName
from scheduler.engine.shard import Shard
from scheduler.engine.shards import Shards

# Where nothing was to be had, nobody asks again for so long.
BARREN_S = 0.2
BARREN_MAX = 1_000


class Lending:
    """A part is given before it is taken: whoever stops in between has made the quota smaller, never larger.

    What is lost so is there again with the next change of quotas.
    """

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._barren: dict[tuple[Tenant, str], float] = {}

    async def lend(self, tenant: Tenant, quota: QuotaName, to: Shard, count: int = 1) -> bool:
        """Whether this shard may give the tenant more now, of which others gave up to count or a good part."""
        whole = getattr(self._shards.first.mirror.quotas.of(tenant), quota)
        now = asyncio.get_running_loop().time()
        if not whole or self._barren.get((tenant, quota), 0) > now:
            return False
        # where nodes lie unevenly, not each job should have to ask
        count = max(count, whole // (8 * len(self._shards)))
        for other in self._shards:
            if other is to or other.away:
                continue
            _, given, version = await other.functions.tenant_lend(tenant, quota, "give", count)
            if given:
                return (await to.functions.tenant_lend(tenant, quota, "take", given, version))[0] == "taken"
        if len(self._barren) >= BARREN_MAX:
            self._barren.clear()
        self._barren[tenant, quota] = now + BARREN_S
        return False
