"""What Redis has of nodes, in the terms of a snapshot, read key by key and not by the way that snapshots are made."""

from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError

from scheduler.domain.ids import NodeId
from scheduler.domain.node import offered_by
from scheduler.errors import ServerUnavailable
from scheduler.store.client import Client, heeding_cancel
from scheduler.store.keys import free_key, leases_key, node_key

_FIELDS = ("state", "slots", "structure", "capabilities", "pools")


@dataclass(frozen=True, slots=True)
class NodeTruth:
    """One node. `free` is 0 where it is not among those that can take a job."""

    state: str
    slots: int
    free: int
    structure: str
    offered: frozenset[str]
    pools: frozenset[str]


async def node_truths(client: Client, shard: str, nodes: Sequence[NodeId]) -> dict[NodeId, NodeTruth]:
    """Those of the nodes that exist; a page of some hundreds at most."""
    pipe = client.pipeline(transaction=False)
    for node in nodes:
        pipe.execute_command("HMGET", node_key(shard, node), *_FIELDS)
        pipe.execute_command("ZCARD", leases_key(shard, node))
        pipe.execute_command("SISMEMBER", free_key(shard), node)
    try:
        with heeding_cancel():
            answers = await pipe.execute() if nodes else []
    except (TimeoutError, RedisError, OSError) as error:
        raise ServerUnavailable(f"Redis does not answer: {error}") from error
    found: dict[NodeId, NodeTruth] = {}
    for node, fields, used, is_free in zip(nodes, answers[::3], answers[1::3], answers[2::3], strict=True):
        state, slots, structure, capabilities, pools = ((raw or b"").decode() for raw in fields)
        if state:
            free = max(int(slots) - used, 0) if is_free else 0
            offered = frozenset(map(str, offered_by(capabilities.split())))
            found[node] = NodeTruth(state, int(slots), free, structure, offered, frozenset(pools.split()))
    return found
