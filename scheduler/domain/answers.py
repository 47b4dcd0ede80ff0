"""The shapes of answers; what is sent and what OpenAPI says are the same structs."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from scheduler.domain.explanation import Class
from scheduler.domain.job import JobState
from scheduler.domain.node import NodeState
from scheduler.domain.tenants import TenantView
from scheduler.domain.views import JobView, NodeAddress, NodeView, PoolView


class PlacedJob(msgspec.Struct, frozen=True):
    """A job and where it is. `node` is null while it has none; `lease_expires_at_ms` is wall-clock time.

    `traceparent` is the W3C Trace Context that the job was given, for whoever works on it.
    """

    id: str
    state: JobState
    node: NodeAddress | None
    pool: str
    fence: int
    attempt: int
    lease_expires_at_ms: int
    traceparent: str | UnsetType = UNSET


class PlacementFacts(msgspec.Struct, frozen=True):
    """How a placement came about; `conflict`: the whole shortlist was stale and Redis looked further."""

    candidates: int
    conflict: bool
    fallback_used: bool
    snapshot_age_ms: int


class PlacementAnswer(msgspec.Struct, frozen=True):
    """`placement` is absent where the same id and body had been placed before."""

    job: PlacedJob
    placement: PlacementFacts | UnsetType = UNSET


class BatchOutcome(msgspec.Struct, frozen=True):
    """What the job would have been told alone: its status with either `job` or `problem`."""

    status: int
    job: PlacedJob | UnsetType = UNSET
    placement: PlacementFacts | UnsetType = UNSET
    problem: dict[str, Any] | UnsetType = UNSET


class BatchAnswer(msgspec.Struct, frozen=True):
    """One outcome for each job, in the order of the request."""

    jobs: list[BatchOutcome]


class JobAnswer(msgspec.Struct, frozen=True):
    """One job."""

    job: JobView


class StartAnswer(msgspec.Struct, frozen=True):
    """The work may begin; `payload` is JSON text, empty where the job has none.

    `traceparent` is the W3C Trace Context that the job was given.
    """

    outcome: Literal["running"]
    remaining_ms: int
    payload: str
    attempt: int = 0
    traceparent: str | UnsetType = UNSET


class OutcomeAnswer(msgspec.Struct, frozen=True):
    """What became of the call; `duplicate`: it had been done before."""

    outcome: Literal["finished", "cancelled", "duplicate", "removed"]


class NodesAnswer(msgspec.Struct, frozen=True):
    """A page of nodes; `cursor` goes into `after` for the next one, null at the end."""

    nodes: list[NodeView]
    cursor: str | None


class NodeAnswer(msgspec.Struct, frozen=True):
    """One node."""

    node: NodeView


class MirroredNode(msgspec.Struct, frozen=True):
    """One node as the replica knows it; `offered` has each token's part before its first colon, too."""

    id: str
    state: str
    slots: int
    free: int
    structure: str
    offered: list[str]
    pools: list[str]
    over: str
    quarantined: bool


class MirroredShard(msgspec.Struct, frozen=True):
    """How far the snapshot of a shard is."""

    filled: bool
    age_ms: int
    version: int
    structure_version: int
    config_version: int


class MirrorAnswer(msgspec.Struct, frozen=True):
    """A page of the replica's snapshots by node; `cursor` goes into `after`, null at the end."""

    nodes: list[MirroredNode]
    cursor: str | None
    shards: dict[str, MirroredShard]


class AuditAnswer(msgspec.Struct, frozen=True):
    """Who did what, the newest first; `cursor` goes into `before`, null at the end."""

    audit: list[dict[str, int | str]]
    cursor: str | None


class RegisteredAnswer(msgspec.Struct, frozen=True):
    """Every heartbeat must carry this incarnation."""

    outcome: Literal["registered"]
    incarnation: int
    pools: tuple[str, ...]


class CancelOrder(msgspec.Struct, frozen=True):
    """An attempt that the node must stop."""

    job: str
    fence: int


class HeartbeatAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Jobs to stop, and, while draining, the time left for the others (else null).

    `refused` says why a longer offer was not taken: the node offers what it did before, and may tell it again.
    """

    outcome: Literal["ok"]
    ttl_ms: int
    cancel: list[CancelOrder]
    drain_ms: int | None
    refused: str | None = None


class ExplainedPool(msgspec.Struct, frozen=True, rename={"class_": "class"}):
    """One pool of the request's order: what it would answer alone, and how many nodes each reason keeps away."""

    name: str
    class_: Class
    eligible: int
    reasons: dict[str, int]


class ExplainedNode(msgspec.Struct, frozen=True):
    """`verdict` is `eligible` or the first reason; `conditions` are all, with what is missing or over its limit."""

    id: str
    pool: str | None
    verdict: str
    conditions: tuple[str, ...]


class ExplainAnswer(msgspec.Struct, frozen=True, rename={"class_": "class"}):
    """What a job would be told. `near_miss` is the node that is kept away by least; `cursor` goes into `after`."""

    class_: Class
    reasons: dict[str, int]
    pools: list[ExplainedPool]
    near_miss: ExplainedNode | None
    nodes: list[ExplainedNode]
    cursor: str | None
    snapshot_age_ms: int


class MarkedAnswer(msgspec.Struct, frozen=True):
    """The state that the node has now."""

    outcome: Literal["marked"]
    state: str


class TenantsAnswer(msgspec.Struct, frozen=True):
    """Every tenant that has quotas of its own or jobs that wait; `*` stands for all that have no own ones."""

    tenants: list[TenantView]
    tenants_version: int


class TenantAnswer(msgspec.Struct, frozen=True):
    """One tenant, its quotas and what it has of them; to a key of this tenant alone `tenants_version` is 0."""

    tenant: TenantView
    tenants_version: int


class PoolsAnswer(msgspec.Struct, frozen=True):
    """Every pool by name, those of languages included. To a key of one tenant `config_version` is 0."""

    pools: list[PoolView]
    config_version: int


class PoolAnswer(msgspec.Struct, frozen=True):
    """One pool."""

    pool: PoolView
    config_version: int


class SnapshotFacts(msgspec.Struct, frozen=True):
    """What this replica's snapshot says."""

    version: int
    age_ms: int
    nodes: int


class ClusterFacts(msgspec.Struct, frozen=True):
    """One shard as Redis has it, beside what this replica's snapshot says."""

    epoch: str
    abi: int
    revision: int
    version: int
    structure_version: int
    config_version: int
    leases: int
    free_nodes: int
    waiting_queues: int
    nodes: dict[NodeState, int]
    slots: int
    snapshot: SnapshotFacts


class ClusterAnswer(ClusterFacts, frozen=True):
    """The fleet in numbers: sums over the shards, versions of the first; of several shards also each."""

    shards: dict[str, ClusterFacts] | UnsetType = UNSET
