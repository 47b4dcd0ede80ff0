"""node_register: a node is in the fleet in one step, as a new incarnation that inherits nothing."""

import time
from typing import Any

import pytest
import redis

from tests.lua.keyspace import NOW, P, changes, dump, exact
from tests.lua.shard import Shard


def test_the_first_registration_makes_the_shard_and_the_whole_node(shard: Shard) -> None:
    before_us = time.time_ns() // 1000
    reply = shard.call(
        "node_register", "n1", "endpoint", "http://n1", "slots", "2", "capabilities", "asr:zh gpu asr:zh",
        "labels", "zone=a", "cpu", "12.5",
    )  # fmt: skip
    incarnation = reply[1].decode()
    assert reply == [b"registered", incarnation.encode(), b"default"]
    assert before_us <= int(incarnation) <= time.time_ns() // 1000

    state = dump(shard.client)
    now_ms = float(shard.meta("clock"))
    assert state == {
        P: {
            "abi": "1", "revision": "2", "shards": "1", "version": "2", "structure_version": "2",
            "config_version": "0", "epoch": NOW, "clock": NOW, "clock_seen_at_ms": NOW,
        },
        "node:n1": {
            "state": "ready", "incarnation": incarnation, "endpoint": "http://n1", "slots": "2",
            "capabilities": "asr:zh gpu", "labels": "zone=a", "pools": "default", "config_version": "0",
            "structure": "2", "share": "1", "cpu": "12.5", "gpu": "0", "mem": "0",
            "ttl_ms": "3000",
            "registered_at_ms": NOW, "heartbeat_at_ms": NOW,
        },
        "nodes": {"n1": now_ms + 3000},
        "free": {"n1"},
        "cap:asr:zh": {"n1"},
        "cap:asr": {"n1"},
        "cap:gpu": {"n1"},
        "pool:default": {"n1"},
        "settled": {"n1": 0.0},
        "changed": {"n1": 2.0},
        "events": [{"kind": "node_registered", "node": "n1", "incarnation": incarnation}],
    }  # fmt: skip


def test_a_second_registration_is_a_higher_incarnation_and_moves_the_indexes(shard: Shard) -> None:
    first = int(shard.register(capabilities="asr:zh gpu", labels="zone=a", cpu=50))
    before = dump(shard.client)
    second = int(shard.register(capabilities="tts:en", slots=5))
    assert second > first
    gone, new = changes(before, dump(shard.client))
    assert {key for key in gone if key.startswith("cap:")} == {"cap:asr:zh", "cap:asr", "cap:gpu"}
    assert {key for key in new if key.startswith("cap:")} == {"cap:tts:en", "cap:tts"}
    node = shard.client.hgetall(f"{P}:node:n1")
    assert (node[b"labels"], node[b"cpu"], node[b"slots"]) == (b"", b"0", b"5")
    assert new["changed"] == {"n1": 3.0}
    assert "free" not in gone


def test_what_the_old_incarnation_held_is_set_apart_for_reaping(shard: Shard) -> None:
    old = shard.register()
    shard.run("j1")
    shard.place("j2")
    shard.call("job_cancel", "j1")
    shard.register()
    state = dump(shard.client)
    assert set(state[f"orphan:n1:{old}"]) == {"j1", "j2"}
    assert set(state[f"orphan:n1:{old}:ending"]) == {"j1"}
    assert state["orphans"] == {f"n1:{old}"}
    assert not {"node:n1:leases", "node:n1:inbox", "node:n1:ending"} & state.keys()
    assert state["free"] == {"n1"}


@pytest.mark.parametrize(("field", "limit"), [("cpu", 85), ("gpu", 85), ("mem", 85)])
def test_a_node_over_its_threshold_is_in_the_fleet_but_not_free(shard: Shard, field: str, limit: int) -> None:
    over: dict[str, Any] = {field: limit + 0.5}
    under: dict[str, Any] = {field: limit}
    shard.register("over", **over)
    shard.register("under", **under)
    assert dump(shard.client)["free"] == {"under"}


def test_a_cordoned_or_removed_node_registers_as_ready(shard: Shard) -> None:
    incarnation = shard.register()
    shard.call("node_mark", "n1", "drain")
    shard.register()
    assert "drain_until_ms" not in shard.client.hgetall(f"{P}:node:n1")
    assert dump(shard.client)["free"] == {"n1"}
    assert shard.call("node_remove", "n1", shard.field("node:n1", "incarnation")) == [b"removed"]
    assert int(shard.register()) > int(incarnation)
    state = dump(shard.client)
    assert state["free"] == {"n1"}
    assert "removed" not in state


def test_the_largest_node_is_taken_in_one_step(shard: Shard) -> None:
    tokens = [f"t{number:04}:" + "x" * 122 for number in range(1024)]
    shard.register(capabilities=" ".join(tokens), slots=1_000_000)
    assert len(shard.client.keys(f"{P}:cap:*")) == 2048
    assert len(shard.field("node:n1", "capabilities")) == 1024 * 129 - 1


def test_a_shard_has_so_many_nodes_and_no_more_and_those_may_register_again(shard: Shard) -> None:
    shard.register("n1")
    others = {f"x{number}": 9e15 for number in range(99_999)}
    shard.client.zadd(f"{P}:nodes", others)
    before = exact(shard.client)
    with pytest.raises(redis.ResponseError, match="BADARG node would be one more than 100000 in this shard"):
        shard.register("n2")
    assert exact(shard.client) == before
    assert shard.register("n1")
    shard.client.zrem(f"{P}:nodes", "x1")
    assert shard.register("n2")
