"""How many commands each call makes inside, pinned: a changed number here is a changed cost of a placement."""

from typing import Any

import redis

from tests.lua.keyspace import P, dump
from tests.lua.shard import Shard


def calls(client: redis.Redis) -> dict[str, int]:
    stats: Any = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(entry["calls"]) for name, entry in stats.items()}


def counted(shard: Shard, name: str, *args: str | bytes | int) -> dict[str, int]:
    """What one call did by command, without the FCALL itself; the clock is kept from being due."""
    shard.call("reap")
    shard.client.hset(P, mapping={"clock_seen_at_ms": 10**15, "clock": 10**15})
    shard.client.hset(P, "reaped_ms", 10**15)
    for node in dump(shard.client)["nodes"]:
        shard.client.zadd(f"{P}:nodes", {node: 10**15 + 60_000})
    before = calls(shard.client)
    # last, for within 100 ms of it the clock is not due
    seconds, micros = shard.client.time()
    before["time"], before["hset"] = before.get("time", 0) + 1, before["hset"] + 1
    shard.client.hset(P, "clock_seen_at_ms", int(seconds) * 1000 + int(micros) // 1000)
    shard.call(name, *args)
    after = calls(shard.client)
    made = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
    del made["fcall"], made["info"]
    return made


def test_a_claim_from_its_shortlist_of_three(shard: Shard) -> None:
    for node in ("n1", "n2", "n3"):
        shard.register(node, slots=5)
    made = counted(shard, "job_claim", shard.packed("j1", "n1", "n2", "n3"))
    assert made == {
        "hmget": 5,  # meta, each candidate, and the chosen one again
        "time": 1,
        "exists": 1,
        "smismember": 1,
        "zscore": 1,
        "zcard": 3,
        "zadd": 2,
        "xadd": 1,
        "hset": 1,
    }


def test_a_claim_of_sixteen_reads_the_meta_once(shard: Shard) -> None:
    for node in ("n1", "n2", "n3"):
        shard.register(node, slots=50)
    made = counted(shard, "job_claim", *(shard.packed(f"j{number}", "n1", "n2", "n3") for number in range(16)))
    assert sum(made.values()) == 2 + 16 * 14


def test_a_heartbeat_without_news(shard: Shard) -> None:
    incarnation = shard.register()
    assert counted(shard, "node_heartbeat", "n1", incarnation, "cpu", 10) == {
        "hmget": 2, "time": 1, "hset": 1, "zadd": 1, "zcard": 1, "sadd": 1, "exists": 1, "hlen": 1,
    }  # fmt: skip


def test_a_start(shard: Shard) -> None:
    shard.register()
    fence = shard.place()
    assert counted(shard, "job_start", "j1", fence) == {
        "hmget": 2, "time": 1, "zscore": 1, "xdel": 1, "hdel": 1, "hset": 1, "zadd": 2, "hget": 1,
    }  # fmt: skip


def test_a_finish_on_a_node_that_is_not_full(shard: Shard) -> None:
    shard.register()
    fence = shard.run()
    assert counted(shard, "job_finish", "j1", fence, "succeeded", "{}") == {
        "hmget": 3, "time": 1, "zrem": 2, "sismember": 1, "hset": 1, "hdel": 1, "pexpire": 1, "xadd": 1,
    }  # fmt: skip
