"""A pool: a named selector over nodes, with the tenants it serves and the pools to fall back to."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from scheduler.domain.ids import PoolName, Tenant

Strategy = Literal["spread", "pack"]


class Selector(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which nodes belong: all of these capabilities and labels; `all` says that an empty selector is meant."""

    capabilities: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    all: bool = False


class Pool(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """One pool's configuration, as stored in `P:pools`. Without `d` the replica's own number of candidates holds.

    With `languages` it is an automatic one: of the nodes that speak exactly these, for requests within them.
    """

    selector: Selector = Selector()
    tenants: tuple[str, ...] = ("*",)
    fallback: tuple[str, ...] = ()
    strategy: Strategy = "spread"
    priority: int = 0
    d: int | None = None
    languages: tuple[str, ...] = ()

    def serves(self, tenant: Tenant) -> bool:
        return "*" in self.tenants or tenant in self.tenants

    def speaks(self, languages: tuple[str, ...]) -> bool:
        """A language pool is for the requests whose languages it contains, and only for these."""
        return not self.languages or (bool(languages) and set(languages) <= set(self.languages))


DEFAULT_POOLS = {PoolName("default"): Pool(selector=Selector(all=True))}


def pool_order(
    pools: Mapping[PoolName, Pool],
    tenant: Tenant,
    named: PoolName | None,
    *,
    fallback: bool,
    languages: tuple[str, ...] = (),
) -> tuple[PoolName, ...]:
    """The pools for a request, best first: the named one or the tenant's by priority then name, then fallbacks.

    Fallbacks follow breadth first, each only if it serves the tenant. Empty where the tenant may use none of them.
    """
    if named is not None:
        order = [named] if named in pools and pools[named].serves(tenant) else []
    else:
        found = (name for name, pool in pools.items() if pool.serves(tenant) and pool.speaks(languages))
        order = sorted(found, key=lambda name: (-pools[name].priority, name))
    for name in order:  # grows while it is walked
        for next_name in pools[name].fallback if fallback else ():
            known = PoolName(next_name)
            if known in pools and known not in order and pools[known].serves(tenant):
                order.append(known)
    return tuple(order)
