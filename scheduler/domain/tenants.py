"""What a tenant may have at most, and how shards divide it."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from scheduler.domain.ids import Tenant, checked_id

# The name of the row of all tenants that have none of their own.
EVERYONE = "*"
QuotaName = Literal["concurrent_jobs", "waiting_jobs", "requests_per_s", "payload_bytes"]


class Quota(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one tenant may have at most; what is left out has no limit but the fleet's.

    `concurrent_jobs` are slots that it occupies, `waiting_jobs` jobs that wait, `payload_bytes` those of one job.
    """

    concurrent_jobs: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    waiting_jobs: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    requests_per_s: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    payload_bytes: Annotated[int, Meta(ge=0, le=262_144)] | None = None


NO_QUOTA = Quota()


class Quotas(msgspec.Struct, frozen=True):
    """All rows by tenant, and their version."""

    version: int = 0
    rows: dict[str, Quota] = {}

    def of(self, tenant: str) -> Quota:
        """The tenant's own row, or that of everyone; a row of its own stands for all of it."""
        row = self.rows.get(tenant)
        return self.rows.get(EVERYONE, NO_QUOTA) if row is None else row


class TenantView(msgspec.Struct, frozen=True):
    """One tenant: its own quotas or null, those in force, the slots that it occupies, and its jobs that wait."""

    name: str
    quota: Quota | None
    in_force: Quota
    leases: int
    waiting: int


def checked_tenant(field: str, value: str) -> Tenant:
    """A tenant's name or `*`; BadInput on the field."""
    return Tenant(value) if value == EVERYONE else Tenant(checked_id(field, value))


def share_of(tags: Sequence[str], tag: str, tenant: str, whole: int) -> int:
    """What the shard of this tag may give the tenant of a number; lua/shared/tenants.lua has the same rule."""
    first = int(hashlib.sha1(tenant.encode(), usedforsecurity=False).hexdigest()[:8], 16)
    turn = (tags.index(tag) - first) % len(tags)
    return whole // len(tags) + (turn < whole % len(tags))


def quota_of(text: bytes | str) -> Quota:
    """A row as it is stored; a quota that a newer library brought is passed over."""
    return msgspec.json.decode(text, type=Quota)
