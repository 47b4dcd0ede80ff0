"""What is left in Redis, held against the ledgers, once every lease has ended."""

import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import redis

from tests.soak.ledger import Books, Entry

FIELDS = ("state", "fence", "result", "deliver", "retry_failed", "lingering", "result_dropped")
ENDED = {"succeeded", "failed", "cancelled", "expired"}
SLICE = 1_000
# Keys that must be gone when no job is left. Every job that has not ended is in one of the first two, and these are
# asked for in one step: a scan alone would miss a job that goes from one to the other.
UNDER_WAY = (":leases", ":pending")
PASSING = (*UNDER_WAY, ":ending", ":orphans", ":waiting", ":fair")


def unsettled(client: redis.Redis, shard: str) -> list[str]:
    """The keys that say that something is still under way; streams of inboxes that hold an entry too."""
    if client.exists(*(shard + name for name in UNDER_WAY)):
        return [shard + name for name in UNDER_WAY if client.exists(shard + name)] or ["a job on its way"]
    keys = [key.decode() for key in client.scan_iter(match=f"{shard}:[^j]*", count=5_000)]
    left = [key for key in keys if key.endswith(PASSING) or f"{shard}:orphan:" in key or f"{shard}:queue:" in key]
    inboxes: Any = [key for key in keys if key.endswith(":inbox")]
    return sorted(left + [key for key in inboxes if client.xlen(key)])


def wait_settled(client: redis.Redis, shard: str, deadline_s: float) -> list[str]:
    """Wait until nothing is under way; answers what still is at the deadline."""
    end = time.monotonic() + deadline_s
    while (left := unsettled(client, shard)) and time.monotonic() < end:
        time.sleep(0.5)
    return left


def free_differs(client: redis.Redis, shard: str) -> set[str]:
    """P:free against the nodes that live, are ready and are not set aside; every slot is free now."""
    known: Any = client.zrange(f"{shard}:nodes", 0, -1)
    able = set()
    for name in (raw.decode() for raw in known):
        state, aside = client.hmget(f"{shard}:node:{name}", ["state", "quarantined_until_ms"])
        if state == b"ready" and not aside:
            able.add(name)
    free: Any = client.smembers(f"{shard}:free")
    return able ^ {raw.decode() for raw in free}


def _jobs(client: redis.Redis, shard: str) -> Iterator[tuple[str, dict[str, str], int]]:
    """Every job there is: its id, the fields that tell, and how long it is kept yet."""
    prefix = f"{shard}:job:"
    names = client.scan_iter(match=f"{prefix}*", count=5_000)
    while keys := list(islice(names, SLICE)):
        pipe = client.pipeline(transaction=False)
        for key in keys:
            pipe.hmget(key, FIELDS)
            pipe.pttl(key)
        answers = pipe.execute()
        for key, values, kept_ms in zip(keys, answers[::2], answers[1::2], strict=True):
            held = {name: value.decode() for name, value in zip(FIELDS, values, strict=True) if value is not None}
            yield key.decode().removeprefix(prefix), held, kept_ms


def judged_job(job: str, held: dict[str, str], kept_ms: int, entry: Entry | None) -> list[str]:
    """The rules that this job breaks."""
    state, fence, result = held.get("state", ""), int(held.get("fence", 0)), held.get("result", "")
    ends = [end for end in entry.ends if end[0] != "failed" or "retry_failed" not in held] if entry else []
    rules = {
        "not ended": state not in ENDED,
        "kept for ever": kept_ms < 0 or "lingering" in held,
        "result dropped": "result_dropped" in held,
        "result of another attempt": state == "succeeded" and result != f"{job} {fence}",
        "fence went back": entry is not None and entry.fence > fence,
        "result doubled": len(ends) > 1,
        "acknowledged end lost": any(end[0] != state for end in ends),
        "acknowledged result lost": any(
            end[0] == state == "succeeded" and end[1:] != (fence, result) for end in ends
        ),
    }
    return [name for name, broken in rules.items() if broken]


def compare(client: redis.Redis, shard: str, books: Books) -> tuple[Counter[str], Counter[str], list[str]]:
    """Counts, violations by kind, and an example of each."""
    counts, bad, examples = Counter[str](), Counter[str](), dict[str, str]()
    found: set[str] = set()
    for job, held, kept_ms in _jobs(client, shard):
        # a scan may show a key twice
        if job in found:
            continue
        found.add(job)
        entry = books.known.get(job)
        counts[f"state {held.get('state', '')}"] += 1
        if entry is None:
            counts["jobs whose reply nobody saw"] += 1
        for rule in judged_job(job, held, kept_ms, entry):
            bad[rule] += 1
            examples.setdefault(rule, f"{rule}: {job} {held} {kept_ms} {entry}")
    lost, strange, placed = books.known.keys() - found, found - books.sent, found & books.refused_once
    for rule, jobs in (
        ("acknowledged job lost", lost),
        ("job that nobody sent", strange),
        ("refused but placed", placed),
    ):
        bad[rule] += len(jobs)
        if jobs:
            examples[rule] = f"{rule}: {min(jobs)}"
    counts |= Counter(
        {"jobs": len(found), "distinct ids acknowledged": len(books.known), "ids sent": len(books.sent)}
    )
    counts["refused, then placed by a late copy"] = len(found & books.refused - books.known.keys())
    return counts, +bad, list(examples.values())
