"""The redis-cli lines that show what a page shows: what the page says can be checked without us."""

import shlex
from collections.abc import Sequence

from scheduler.domain.ids import JobId, NodeId
from scheduler.store.keys import events_key, inbox_key, job_key, leases_key, node_key, waiting_key

Commands = list[tuple[str, str]]


def _line(*words: str) -> str:
    return shlex.join(("redis-cli", *words))


def of_node(shard: str, node: NodeId) -> Commands:
    return [
        ("everything that is known of it", _line("HGETALL", node_key(shard, node))),
        ("its leases: jobs with their deadlines", _line("ZRANGE", leases_key(shard, node), "0", "-1", "WITHSCORES")),
        ("what it has not taken from its inbox yet", _line("XRANGE", inbox_key(shard, node), "-", "+")),
    ]


def of_job(shard: str, job: JobId) -> Commands:
    return [("everything that is known of it", _line("HGETALL", job_key(shard, job)))]


def of_jobs(shards: Sequence[str]) -> Commands:
    first = shards[0]
    return [
        ("the last events", _line("XREVRANGE", events_key(first), "+", "-", "COUNT", "20")),
        ("what is waited for, and by which tenants", _line("HGETALL", waiting_key(first))),
        ("how many have a slot", _line("ZCARD", f"{first}:leases")),
    ]


def of_pool(shard: str, pool: str) -> Commands:
    return [
        ("its members", _line("SMEMBERS", f"{shard}:pool:{pool}")),
        ("those that can take a job now", _line("SINTER", f"{shard}:free", f"{shard}:pool:{pool}")),
    ]


def of_demand(shard: str, tokens: Sequence[str], pool: str) -> Commands:
    keys = [
        f"{shard}:free",
        *([f"{shard}:pool:{pool}"] if pool else []),
        *(f"{shard}:cap:{token}" for token in tokens),
    ]
    return [("who can take it now", _line("SINTER", *keys))]
