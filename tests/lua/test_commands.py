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
        "zadd": 3,  # the lease, in its node, in all, and in its tenant's
        "xadd": 1,
        "hset": 1,
    }


def test_a_claim_of_sixteen_reads_the_meta_once(shard: Shard) -> None:
    for node in ("n1", "n2", "n3"):
        shard.register(node, slots=50)
    made = counted(shard, "job_claim", *(shard.packed(f"j{number}", "n1", "n2", "n3") for number in range(16)))
    assert sum(made.values()) == 2 + 16 * 15


def test_a_heartbeat_without_news(shard: Shard) -> None:
    incarnation = shard.register()
    assert counted(shard, "node_heartbeat", "n1", incarnation, "cpu", 10) == {
        "hmget": 2, "time": 1, "hset": 1, "zadd": 1, "zcard": 1, "sadd": 1, "exists": 1, "hlen": 1,
    }  # fmt: skip


def test_a_start(shard: Shard) -> None:
    shard.register()
    fence = shard.place()
    assert counted(shard, "job_start", "j1", fence) == {
        "hmget": 3, "time": 1, "zscore": 1, "xdel": 1, "hdel": 1, "hset": 1, "zadd": 2,
    }  # fmt: skip


def test_a_finish_on_a_node_that_is_not_full(shard: Shard) -> None:
    shard.register()
    fence = shard.run()
    assert counted(shard, "job_finish", "j1", fence, "succeeded", "{}") == {
        "hmget": 3, "time": 1, "zrem": 3, "sismember": 1, "hset": 1, "hdel": 1, "pexpire": 1, "xadd": 1,
    }  # fmt: skip


def test_a_hold(shard: Shard) -> None:
    shard.register("n1", slots=5)
    assert counted(shard, "job_claim", shard.packed("h1", "n1", digest="-", hold="h1", hold_ms=60_000)) == {
        "hmget": 3, "time": 1, "get": 1, "smismember": 1, "zscore": 1, "zcard": 1, "zadd": 3, "set": 1,
    }  # fmt: skip


def test_a_commit_and_a_drop(shard: Shard) -> None:
    shard.register("n1", slots=5)
    for hold in ("h1", "h2"):
        shard.client.set(f"{P}:hold:{hold}", f"n1 {shard.field('node:n1', 'incarnation')} default 0 acme")
        for key in ("leases", "node:n1:leases"):
            shard.client.zadd(f"{P}:{key}", {hold: 10**16})
    assert counted(shard, "job_claim", shard.packed("j1", hold="h1")) == {
        "hmget": 3, "time": 1, "get": 1, "set": 1, "zscore": 1, "zcard": 1, "zadd": 3, "zrem": 3,
        "xadd": 1, "hset": 1,
    }  # fmt: skip
    assert counted(shard, "hold_drop", "h2") == {
        "hmget": 1, "time": 1, "get": 2, "set": 1, "zrem": 3, "sismember": 1,
    }  # fmt: skip


def test_a_move_that_its_client_notes(shard: Shard) -> None:
    shard.register()
    made = counted(shard, "job_move", "k1", "1", "h1", "acme", "d")
    assert made == {"hmget": 2, "time": 1, "hset": 1, "zadd": 1}


def test_a_move_of_a_job_that_waits_and_its_way_back(shard: Shard) -> None:
    shard.register(slots=1)
    for job in ("j1", "j2", "j3"):
        shard.claim(job, "n1", digest=job, wait_ms=60_000)
    shard.client.zadd(f"{P}:pending", {"j2": 10**16, "j3": 10**16})
    assert counted(shard, "job_move", "j2", "1", "h1") == {
        "hmget": 4, "time": 1, "zscore": 2, "zrem": 2, "hdel": 1, "exists": 1, "hset": 1, "zadd": 1,
    }  # fmt: skip
    assert counted(shard, "job_return", "j2", "h1") == {
        "hmget": 5, "time": 1, "zrem": 1, "hdel": 1, "hset": 3, "hexists": 1, "zadd": 2,
    }  # fmt: skip
    shard.call("job_move", "j2", "1", "h1")
    assert counted(shard, "job_settle", "j2", "h1", 1) == {
        "hmget": 3, "time": 1, "del": 1, "hset": 3, "zadd": 1, "xadd": 1,
    }  # fmt: skip


def test_a_mirror_without_news_and_with_the_shard_in_numbers(shard: Shard) -> None:
    shard.register(slots=1)
    shard.place("j0", "n1")
    # counting moves the clock far on
    shard.client.zadd(f"{P}:leases", {"j0": 10**16})
    version = shard.meta("version")
    plain = {"hmget": 2, "time": 1, "zrangebyscore": 1, "hlen": 1}
    quotas = shard.meta("tenants_version") or "0"
    assert counted(shard, "mirror_read", version, version, "0", 100, 0, quotas) == plain
    told = {"hmget": 3, "time": 1, "zrangebyscore": 1, "hlen": 2, "zcard": 2, "hget": 1}
    assert counted(shard, "mirror_read", version, version, "0", 100, 1, quotas) == told
    for number in range(6):
        # two queues, and two priorities in each
        fields = {"tenant": f"t{number % 2}", "digest": f"d{number}", "priority": number % 4, "wait_ms": 60_000}
        assert shard.claim(f"j{number + 1}", "n1", **fields)[0] == b"waiting"
    shard.client.zadd(f"{P}:pending", {f"j{number + 1}": 10**16 for number in range(6)})
    version = shard.meta("version")
    waiting = told | {"hkeys": 1, "zrangebyscore": 1 + 2 * 3}
    assert counted(shard, "mirror_read", version, version, "0", 100, 1, quotas) == waiting
