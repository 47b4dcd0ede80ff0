"""Sessions and exclusion in the claim: sticky, spread, none; keys of a tenant; a lost node moves its sessions."""

import pytest

from scheduler.domain.ids import NodeId
from tests.lua.keyspace import P, dump
from tests.lua.shard import Shard


def two(shard: Shard) -> None:
    for node in ("n1", "n2"):
        shard.register(node, slots=5, ttl_ms=60_000)


def on(shard: Shard, job: str, *shortlist: str, tenant: str = "acme", **fields: object) -> str:
    answer = shard.claim(job, *shortlist, session="s", tenant=tenant, **fields)
    assert answer[0] == b"placed", answer
    return str(answer[2].decode())


@pytest.mark.parametrize("fate", ["lapsed", "lost", "cordoned", "full", "overloaded", "removed"])
def test_a_sticky_session_whose_node_cannot_moves_in_the_same_claim_and_stays_there(shard: Shard, fate: str) -> None:
    two(shard)
    incarnation = shard.field("node:n1", "incarnation")
    assert on(shard, "a", "n1", affinity="sticky") == "n1"
    if fate in {"lapsed", "lost"}:
        shard.client.zadd(f"{P}:nodes", {"n1": 1})
        if fate == "lost":
            shard.call("reap")
    elif fate == "cordoned":
        shard.call("node_mark", "n1", "cordon")
    elif fate == "full":
        shard.call("node_heartbeat", "n1", incarnation, "slots", 1)
    elif fate == "overloaded":
        shard.call("node_heartbeat", "n1", incarnation, "cpu", 99)
    else:
        shard.call("node_remove", "n1", incarnation)
    assert on(shard, "b", "n1", affinity="sticky") == "n2"
    assert shard.client.get(f"{P}:session:acme:s") == b"n2"
    assert on(shard, "c", "n1", affinity="sticky") == "n2"


def test_a_session_is_its_tenants_own(shard: Shard) -> None:
    two(shard)
    assert on(shard, "a", "n1", affinity="sticky") == "n1"
    assert on(shard, "b", "n2", affinity="sticky", tenant="other") == "n2"
    assert on(shard, "c", "n2", affinity="sticky") == "n1"
    assert {key: value for key, value in dump(shard.client).items() if key.startswith("session:")} == {
        "session:acme:s": "n1",
        "session:other:s": "n2",
    }


def test_each_claim_of_a_session_renews_its_key(shard: Shard) -> None:
    two(shard)
    on(shard, "a", "n1", affinity="sticky")
    shard.client.pexpire(f"{P}:session:acme:s", 5_000)
    on(shard, "b", "n1", affinity="sticky")
    assert int(shard.client.pttl(f"{P}:session:acme:s")) > 1_700_000


def test_a_sticky_session_does_not_follow_its_node_out_of_the_tenants_pools(shard: Shard) -> None:
    two(shard)
    on(shard, "a", "n1", affinity="sticky")
    shard.call("pool_put", "mine", '{"selector":{"labels":{"tier":"mine"}},"tenants":["acme"]}')
    shard.call("node_heartbeat", "n2", shard.field("node:n2", "incarnation"), "labels", "tier=mine")
    assert on(shard, "b", "n1", affinity="sticky", known=False) == "n2"


def test_no_affinity_leaves_no_key(shard: Shard) -> None:
    two(shard)
    on(shard, "a", "n1")
    assert not [key for key in dump(shard.client) if key.startswith("session:")]


def test_exclusion_is_stronger_than_a_session_and_than_the_shortlist(shard: Shard) -> None:
    two(shard)
    on(shard, "a", "n1", affinity="sticky")
    assert on(shard, "b", "n1", affinity="sticky", exclude=frozenset({NodeId("n1")})) == "n2"
    assert on(shard, "c", "n1", exclude=frozenset({NodeId("n1")})) == "n2"
    both = frozenset({NodeId("n1"), NodeId("n2")})
    assert shard.claim("d", "n1", "n2", exclude=both)[:2] == [b"refused", b"unavailable"]


def test_slots_lowered_below_the_leases_evict_nothing_and_admit_nothing(shard: Shard) -> None:
    incarnation = shard.register(slots=3)
    fences = {job: shard.run(job) for job in ("a", "b", "c")}
    shard.call("node_heartbeat", "n1", incarnation, "slots", 2)
    assert shard.claim("d", "n1")[:2] == [b"refused", b"overloaded"]
    assert len(dump(shard.client)["node:n1:leases"]) == 3
    shard.call("job_finish", "a", fences["a"], "succeeded")
    assert shard.claim("d", "n1")[0] == b"refused", "two of two are still used"
    shard.call("job_finish", "b", fences["b"], "succeeded")
    assert shard.claim("d", "n1")[0] == b"placed"
    shard.call("node_heartbeat", "n1", incarnation, "slots", 4)
    assert shard.claim("e", "n1")[0] == b"placed"
