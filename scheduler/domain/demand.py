"""A demand: what a job requires of a node, compiled once and shared by all jobs that require the same."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from scheduler.domain.ids import PoolName, Tenant, Token, checked_token
from scheduler.errors import BadInput

TOKENS_MAX = 64


@dataclass(frozen=True)
class Demand:
    """Alternatives of capability conjunctions, and whose pools may serve them; hashable, a key of compiled work."""

    any_of: tuple[frozenset[Token], ...]
    tenant: Tenant
    pool: PoolName | None = None
    fallback: bool = True
    languages: tuple[str, ...] = ()

    @cached_property
    def text(self) -> str:
        """Canonical JSON of the alternatives, as jobs and queues carry it in Redis."""
        return json.dumps({"any_of": [sorted(tokens) for tokens in self.any_of]}, separators=(",", ":"))


def demand_from_tokens(
    requires: Iterable[str], tenant: Tenant, pool: PoolName | None = None, *, fallback: bool = True
) -> Demand:
    """One conjunction of tokens; empty or oversized ones are BadInput on `requires`."""
    tokens = frozenset(checked_token("requires", token) for token in requires)
    if not tokens:
        raise BadInput("requires", "must name at least one capability")
    if len(tokens) > TOKENS_MAX:
        raise BadInput("requires", f"must be at most {TOKENS_MAX} capabilities")
    return Demand((tokens,), tenant, pool, fallback)
