"""Jobs, nodes and pools as people and programs are told of them: read from Redis, sent by a replica."""

import msgspec

from scheduler.domain.job import JobState
from scheduler.domain.pool import Selector, Strategy


class NodeAddress(msgspec.Struct, frozen=True):
    """A node and where it is reached."""

    id: str
    endpoint: str


class JobView(msgspec.Struct, frozen=True):
    """One job. Instants are wall-clock milliseconds, null while they have not come."""

    id: str
    state: JobState
    tenant: str
    node: NodeAddress | None
    pool: str | None
    fence: int | None
    attempt: int
    lease_expires_at_ms: int | None
    priority: int
    demand: str
    result: str | None
    reason: str | None
    created_at_ms: int
    started_at_ms: int | None
    ended_at_ms: int | None


class NodeView(msgspec.Struct, frozen=True):
    """One node. Loads in percent; instants in wall-clock milliseconds; `used` is the number of its leases.

    `pools` are those of the configuration of `config_version`, which a key of one tenant is told as 0.
    """

    id: str
    state: str
    endpoint: str
    slots: int
    used: int
    capabilities: list[str]
    labels: dict[str, str]
    pools: list[str]
    cpu: float
    gpu: float
    mem: float
    incarnation: int
    config_version: int
    heartbeat_at_ms: int
    registered_at_ms: int


class PoolView(msgspec.Struct, frozen=True, kw_only=True):
    """One pool, its members, and those that can take a job now; `languages` is not empty for an automatic one."""

    name: str
    selector: Selector
    tenants: tuple[str, ...]
    fallback: tuple[str, ...]
    strategy: Strategy
    priority: int
    d: int | None
    languages: tuple[str, ...]
    members: int
    free: int
