"""One small function per key; the shapes behind them are in `docs/architecture.md`."""

import re

from scheduler.domain.ids import JobId, NodeId, PoolName
from scheduler.errors import BadInput

_NAMESPACE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


def shard_key(namespace: str, tag: str = "0") -> str:
    """P, the shard's meta hash and the prefix of all its keys; the braces keep them in one hash slot."""
    if _NAMESPACE.match(namespace) is None:
        raise BadInput("namespace", "must be 1 to 64 characters of A-Z a-z 0-9 . _ -")
    return f"{namespace}:{{{tag}}}"


def tag_of(shard: str) -> str:
    """The tag between the braces."""
    return shard[shard.rindex("{") + 1 : -1]


def node_key(shard: str, node: NodeId) -> str:
    return f"{shard}:node:{node}"


def nodes_key(shard: str) -> str:
    return f"{shard}:nodes"


def leases_key(shard: str, node: NodeId) -> str:
    return f"{shard}:node:{node}:leases"


def inbox_key(shard: str, node: NodeId) -> str:
    return f"{shard}:node:{node}:inbox"


def job_key(shard: str, job: JobId) -> str:
    return f"{shard}:job:{job}"


def free_key(shard: str) -> str:
    return f"{shard}:free"


def pools_key(shard: str) -> str:
    return f"{shard}:pools"


def pool_key(shard: str, pool: PoolName) -> str:
    return f"{shard}:pool:{pool}"


def events_key(shard: str) -> str:
    return f"{shard}:events"


def audit_key(shard: str) -> str:
    return f"{shard}:audit"


def waiting_key(shard: str) -> str:
    return f"{shard}:waiting"


def queue_key(shard: str, queue: str) -> str:
    return f"{shard}:queue:{queue}"


def apikeys_key(shard: str) -> str:
    return f"{shard}:apikeys"


def tenants_key(shard: str) -> str:
    return f"{shard}:tenants"


def tenant_leases_key(shard: str, tenant: str) -> str:
    return f"{shard}:tenant:{tenant}:leases"


def rate_key(shard: str) -> str:
    """What the keys of requests by tenant begin with."""
    return f"{shard}:rate"
