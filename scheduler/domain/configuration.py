"""The whole configuration of pools as one value, and what tells two of them apart."""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from scheduler.domain.ids import PoolName
from scheduler.domain.pool import Pool, Strategy

Kind = Literal["added", "changed", "removed"]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Percent of load above which a node takes no more jobs, unless it has a limit of its own."""

    cpu_max: float = 85.0
    gpu_max: float = 85.0
    mem_max: float = 85.0


class LanguagePools(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the automatic language pools have in common, and how many there may be."""

    max: int = 50
    tenants: tuple[str, ...] = ("*",)
    fallback: tuple[str, ...] = ()
    strategy: Strategy = "spread"
    priority: int = 0
    d: int | None = None


class Configuration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pools by name, automatic ones among them; without `language_pools` there are none of these.

    `weights` are turns of tenants in the queues, 1 where left out.
    """

    pools: dict[PoolName, Pool] = {}
    limits: Limits = Limits()
    language_pools: LanguagePools | None = None
    weights: dict[str, int] = {}


def configuration_text(configuration: Configuration) -> str:
    """The configuration as the JSON that pools_apply takes; automatic pools are not configured."""
    told: dict[str, Any] = {
        "pools": {name: _told(pool) for name, pool in configuration.pools.items() if not pool.languages},
        "limits": _told(configuration.limits),
        "weights": configuration.weights,
    }
    if configuration.language_pools is not None:
        told["language_pools"] = _told(configuration.language_pools)
        told["language_pools"].setdefault("max", configuration.language_pools.max)
    return msgspec.json.encode(told).decode()


class Change(msgspec.Struct, frozen=True):
    """One difference. `at` is the path in a file; what is added or removed is told by its fields without defaults."""

    kind: Kind
    at: str
    old: Any = None
    new: Any = None


def _told(value: msgspec.Struct) -> dict[str, Any]:
    """The fields as plain values; those that have their defaults are left out."""
    bare = msgspec.to_builtins(type(value)())
    told: dict[str, Any] = msgspec.to_builtins(value)
    return {name: held for name, held in told.items() if held != bare[name]}


def _changed(at: str, old: msgspec.Struct | None, new: msgspec.Struct | None) -> Iterator[Change]:
    if old is None and new is None:
        return
    if old is None or new is None:
        kind: Kind = "added" if old is None else "removed"
        yield Change(kind, at, old and _told(old), new and _told(new))
        return
    before, after = msgspec.to_builtins(old), msgspec.to_builtins(new)
    for name in before:
        if before[name] != after[name]:
            yield Change("changed", f"{at}.{name}", before[name], after[name])


def difference(old: Configuration, new: Configuration) -> tuple[Change, ...]:
    """What is to be done to bring old to new, pools by name first. Automatic pools are nobody's to configure."""
    changes: list[Change] = []
    for name in sorted(old.pools.keys() | new.pools.keys()):
        held = old.pools.get(name)
        configured = None if held is None or held.languages else held
        changes += _changed(f"pools.{name}", configured, new.pools.get(name))
    changes += _changed("limits", old.limits, new.limits)
    changes += _changed("language_pools", old.language_pools, new.language_pools)
    for tenant in sorted(old.weights.keys() | new.weights.keys()):
        before, after = old.weights.get(tenant, 1), new.weights.get(tenant, 1)
        if before != after:
            changes.append(Change("changed", f"weights.{tenant}", before, after))
    return tuple(changes)
