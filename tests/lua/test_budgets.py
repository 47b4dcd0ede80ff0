"""What a refusal may cost at most: the commands of the dearest claims, and what is answered past the budget."""

import json
from collections.abc import Callable
from typing import Any, cast

import msgpack
import pytest
import redis

from tests.lua.shard import Shard
from tests.lua.test_commands import counted

STALE = 200


@pytest.fixture
def fleet(shard: Shard) -> list[str]:
    """Idle nodes that offer one half of a demand each, and one that offers another token."""
    names = [f"n{i}" for i in range(STALE)]
    for i, name in enumerate(names):
        shard.register(name, "ab"[i % 2], slots=4)
    shard.register("other", "c", slots=20)
    return names


def test_a_page_of_stale_nodes_ends_at_the_budget(shard: Shard, fleet: list[str]) -> None:
    page = shard.packed("j1", *fleet, requires="a b", known=False, look=False, last=True)
    made = counted(shard, "job_claim", page)
    # 37 nodes are considered, each with two reads of it, its deadline, and one or two reads of what it offers
    assert made == {
        "hmget": 1 + 2 * 37,
        "time": 1,
        "exists": 1,
        "smismember": 1,
        "zmscore": 1,
        "zscore": 37,
        "sismember": 54,
    }
    answer = shard.claim("j1", *fleet, requires="a b", known=False, look=False, last=True)
    assert (answer[:2], len(answer[2])) == ([b"again", b"budget"], 37)


def test_pages_that_share_a_call_share_its_budget(shard: Shard, fleet: list[str]) -> None:
    pages = [shard.packed(f"j{i}", *fleet, requires="a b", known=False, look=False) for i in range(2)]
    assert sum(counted(shard, "job_claim", *pages).values()) == 170 + 3
    answers = shard.call("job_claim", *pages)[1:]
    assert [answer[:2] for answer in answers] == [[b"again", b"budget"]] * 2
    assert answers[1][2] == []


def test_sixteen_stale_shortlists_cost_no_more_than_a_page(shard: Shard, fleet: list[str]) -> None:
    claims = [shard.packed(f"j{i}", *fleet[:16], requires="a b", known=False) for i in range(16)]
    made = counted(shard, "job_claim", *claims)
    # the random nodes of the looks lack one token or two
    assert sum(made.values()) <= 400


def test_thirty_two_alternatives_cost_no_more_than_the_budgets(shard: Shard, fleet: list[str]) -> None:
    any_of = [["a", "b", f"no{i}"] for i in range(32)]
    claim = msgpack.unpackb(shard.packed("j1", *fleet[:16], requires="a b", known=False))
    claim |= {"demand": json.dumps({"any_of": any_of})}
    made = counted(shard, "job_claim", msgpack.packb(claim, use_bin_type=False))
    assert sum(made.values()) <= 800


def test_a_page_of_nodes_as_the_snapshot_has_them_is_seen_whole(shard: Shard, fleet: list[str]) -> None:
    for i in range(STALE):
        shard.call("node_mark", f"n{i}", "cordon")
    answer = shard.claim("j1", *fleet, requires="a", look=False, last=True)
    assert (answer[0], answer[2]) == (b"refused", [-1] * STALE)


def test_a_look_that_ran_out_leaves_other_claims_of_the_call_their_shortlists(
    shard: Shard, client: redis.Redis, fleet: list[str]
) -> None:
    client.sadd("fleet:{0}:free", *(f"gone{i}" for i in range(4_000)))
    client.sadd("fleet:{0}:pool:default", *(f"gone{i}" for i in range(4_000)))
    client.sadd("fleet:{0}:cap:big", *(f"gone{i}" for i in range(4_000)))
    dear = shard.packed("j1", requires="big")
    cheap = [shard.packed(f"k{i}", "other", *fleet[:2], requires="c") for i in range(15)]
    answers = shard.call("job_claim", dear, *cheap)[1:]
    assert [answer[0] for answer in answers] == [b"again", *[b"placed"] * 15]


def test_claims_of_one_call_show_at_most_512_nodes(shard: Shard) -> None:
    page = shard.packed("j1", *["n1"] * 256, look=False)
    assert shard.call("job_claim", page, page)[0] == b"claimed"
    with pytest.raises(redis.ResponseError, match=r"^BADARG nodes must be at most 512 in all claims of a call$"):
        shard.call("job_claim", page, page, shard.packed("j2", "n1"))


def test_a_demand_means_the_same_however_many_others_were_seen(shard: Shard) -> None:
    shard.register("n1", "t0 t1", slots=1_000)
    for turn in range(2):
        for i in range(300):
            answer = shard.claim(f"j{turn}.{i}", "n1", requires=f"t{i}", known=False)
            assert answer[0] == (b"placed" if i < 2 else b"refused")


def slowest_ms(client: redis.Redis) -> float:
    """The longest call since the log was last emptied."""
    found: list[Any] = cast("list[Any]", client.slowlog_get(100))
    return max((float(entry["duration"]) / 1_000 for entry in found), default=0.0)


def test_a_web_of_fallbacks_is_judged_without_a_pause(shard: Shard, client: redis.Redis) -> None:
    """Every way through it may be a cycle; following each with its own sentence took a second."""
    names = [f"p{i:03}{'x' * 60}" for i in range(200)]
    pools = {name: {"selector": {"all": True}, "fallback": names[i + 1 : i + 17]} for i, name in enumerate(names)}
    client.slowlog_reset()
    shard.apply(pools)
    shard.put(names[0], priority=1, fallback=names[1:17])
    assert slowest_ms(client) < 300


def test_nodes_with_long_lists_are_brought_in_as_few_as_the_budget_allows(shard: Shard) -> None:
    offered = " ".join(f"asr:l{i:04}" for i in range(1_000))
    for i in range(12):
        shard.register(f"n{i}", offered, slots=4)
    shard.put("all")
    version = shard.meta("config_version")

    def unsettled() -> int:
        return shard.client.zcount("fleet:{0}:settled", "-inf", f"({version}")

    shard.call("reap")
    assert unsettled() == 11
    # a claim takes the first of them all the same
    answer = shard.claim("j1", "n9", "n10", "n11", requires="asr:l0001")
    assert answer[:3] == [b"placed", b"j1", b"n9"]
    assert unsettled() == 10


def test_half_of_the_queues_that_there_may_be_are_read_at_once(shard: Shard, client: redis.Redis) -> None:
    shard.register(slots=1, ttl_ms=3_600_000)
    shard.place("busy")
    shard.claim("j0", "n1", wait_ms=3_600_000)
    ((_, wanted),) = cast("dict[bytes, bytes]", client.hgetall("fleet:{0}:waiting")).items()
    for i in range(255):
        other = f"{i:016x}:acme"
        client.hset("fleet:{0}:waiting", other, wanted)
        client.zadd(f"fleet:{{0}}:queue:{other}", {f"{'x' * 32}{i}.{number}": number for number in range(32)})
    assert counted(shard, "queues_read", "r1") == {
        "hmget": 1, "time": 1, "exists": 1, "get": 1, "set": 1, "hgetall": 1, "zcard": 128, "zrange": 128,
    }  # fmt: skip
    print_times(client, lambda: shard.call("queues_read", "r1"))


def test_a_page_of_moves_that_are_due(shard: Shard, client: redis.Redis) -> None:
    shard.register(slots=1, ttl_ms=3_600_000)
    shard.place("busy")
    for i in range(64):
        shard.claim(f"j{i}", "n1", wait_ms=3_600_000, payload="x" * 4_096)
        shard.call("job_move", f"j{i}", "1", "h1")
        client.zadd("fleet:{0}:moved", {f"j{i}": 1 + i})
    assert counted(shard, "moves_due", 32) == {"hmget": 1 + 2 * 32, "time": 1, "zrangebyscore": 1, "zadd": 32}

    def due_again() -> None:
        client.zadd("fleet:{0}:moved", {f"j{i}": 1 for i in range(32)})
        shard.call("moves_due", 32)

    print_times(client, due_again)


def print_times(client: redis.Redis, call: Callable[[], object]) -> None:
    """For those who ask with -s: what the call took at the server."""
    client.config_set("slowlog-log-slower-than", 0)
    took = []
    for _ in range(20):
        client.slowlog_reset()
        call()
        took.append(slowest_ms(client))
    print(f" {min(took):.2f} to {max(took):.2f} ms", end="")
    client.config_set("slowlog-log-slower-than", 10_000)
