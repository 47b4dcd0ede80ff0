"""A demand: what a job requires of a node, compiled once and shared by all jobs that require the same."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from scheduler.domain.ids import PoolName, Tenant, Token, checked_token
from scheduler.domain.required import required
from scheduler.errors import BadInput

TOKENS_MAX = 64


@dataclass(frozen=True)
class Demand:
    """Alternatives of capability conjunctions, and whose pools may serve them; hashable, a key of compiled work.

    `languages` are those that the request names, sorted: tokens alone do not tell them.
    """

    any_of: tuple[frozenset[Token], ...]
    tenant: Tenant
    pool: PoolName | None = None
    fallback: bool = True
    languages: tuple[str, ...] = ()

    @cached_property
    def text(self) -> str:
        """Canonical JSON of the alternatives, as jobs and queues carry it in Redis."""
        return json.dumps({"any_of": [sorted(tokens) for tokens in self.any_of]}, separators=(",", ":"))


def demand_from(
    tenant: Tenant,
    *,
    requires: Iterable[str] = (),
    services: Sequence[str] = (),
    src: str | None = None,
    tgt: str | None = None,
    pool: PoolName | None = None,
    fallback: bool = True,
) -> Demand:
    """Tokens, services in languages, or both, which must all be met; BadInput names the field."""
    tokens = frozenset(checked_token("requires", token) for token in requires)
    if not tokens and not services:
        raise BadInput("requires", "must name at least one capability where services name none")
    needs = required(services, src, tgt)
    any_of = tuple(tokens | more for more in needs.any_of)
    if max(map(len, any_of)) > TOKENS_MAX:
        raise BadInput("requires", f"must be at most {TOKENS_MAX} capabilities, with those of services")
    return Demand(any_of, tenant, pool, fallback, needs.languages)


def demand_from_tokens(
    requires: Iterable[str], tenant: Tenant, pool: PoolName | None = None, *, fallback: bool = True
) -> Demand:
    """One conjunction of tokens; empty or oversized ones are BadInput on `requires`."""
    return demand_from(tenant, requires=requires, pool=pool, fallback=fallback)
