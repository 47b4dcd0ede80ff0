"""A job as its submitter asks for it, and what is told of it afterwards."""

from enum import StrEnum
from typing import Literal

import msgspec

from scheduler.domain.demand import Demand
from scheduler.domain.ids import Fence, JobId, NodeId, PoolName

Affinity = Literal["none", "sticky", "spread"]
Deliver = Literal["inbox", "direct"]
Outcome = Literal["succeeded", "failed", "released"]

PAYLOAD_MAX_BYTES = 262_144
ACK_MS, TIMEOUT_MS, MAX_ATTEMPTS, PRIORITY = 10_000, 600_000, 3, 5


class JobState(StrEnum):
    """The life of a job; the last four are ends."""

    PENDING = "pending"
    CLAIMED = "claimed"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def ended(self) -> bool:
        return self not in (JobState.PENDING, JobState.CLAIMED, JobState.RUNNING)


class JobRequest(msgspec.Struct, frozen=True, gc=False):
    """One job to place. `digest` identifies the request's content: the same id with another digest is refused."""

    id: JobId
    digest: str
    demand: Demand
    session: str | None = None
    affinity: Affinity = "none"
    exclude: frozenset[NodeId] = frozenset()
    payload: str | None = None
    deliver: Deliver = "inbox"
    priority: int = PRIORITY
    ack_ms: int = ACK_MS
    timeout_ms: int = TIMEOUT_MS
    wait_ms: int = 0
    max_attempts: int = MAX_ATTEMPTS
    retry_failed: bool = False
    # W3C Trace Context of the request, which the node's work is to be part of.
    traceparent: str = ""
    # Between shards: a slot is held for hold_ms under a token; with the token alone it is the job's. elsewhere:
    # another shard offers what is required, so the job may wait also where nothing does.
    hold: str = ""
    hold_ms: int = 0
    elsewhere: bool = False


class Placement(msgspec.Struct, frozen=True, gc=False):
    """A job on its node. `lease_expires_at_ms` is wall-clock time, for people; Redis's shard clock decides."""

    job: JobId
    state: JobState
    node: NodeId
    endpoint: str
    pool: PoolName
    fence: Fence
    attempt: int
    lease_expires_at_ms: int
