"""job_claim: a slot on the best node by its true state, in one step, or the reason why not."""

from typing import Any

import pytest

from scheduler.domain.ids import NodeId
from tests.lua.keyspace import NOW, P, changes, dump, exact
from tests.lua.shard import Shard


def configure(shard: Shard, **pools: dict[str, Any]) -> None:
    """Exactly these pools, each of every node where it says nothing else."""
    shard.apply({name: {"selector": {"all": True}} | pool for name, pool in pools.items()})


def test_a_claim_writes_lease_job_delivery_and_nothing_else(shard: Shard) -> None:
    shard.register(slots=2)
    before = dump(shard.client)
    answer = shard.claim("acme:j1", "n1", payload='{"a":1}', ack_ms=500, timeout_ms=700, priority=9, digest="x")
    fence, expires = answer[5].decode(), int(answer[7])
    assert answer == [
        b"placed", b"acme:j1", b"n1", b"http://n1", b"default", fence.encode(), 1, str(expires).encode(),
        0, [0], 0, 2,
    ]  # fmt: skip
    gone, new = changes(before, dump(shard.client))
    deadline = new["leases"]["acme:j1"]
    assert int(shard.meta("clock")) + 500 <= deadline < int(shard.meta("clock")) + 1500
    assert gone == {}
    assert new == {
        "tenant:acme:leases": {"acme:j1": float(fence)},
        "leases": {"acme:j1": deadline},
        "node:n1:leases": {"acme:j1": deadline},
        "node:n1:inbox": [{"kind": "job", "job": "acme:j1", "fence": fence}],
        "job:acme:j1": {
            "tenant": "acme", "demand": '{"any_of":[["asr:zh"]]}', "digest": "x", "created_at_ms": NOW,
            "payload": '{"a":1}', "ack_ms": "500", "timeout_ms": "700", "priority": "9", "entry": NOW,
            "state": "claimed", "node": "n1", "incarnation": shard.field("node:n1", "incarnation"),
            "pool": "default", "fence": fence, "attempt": "1", "lease_expires_at_ms": NOW,
        },
    }  # fmt: skip
    assert shard.client.pttl(f"{P}:job:acme:j1") == -1


def test_the_last_slot_takes_the_node_out_of_free_and_tells_the_mirrors(shard: Shard) -> None:
    shard.register(slots=1)
    before = dump(shard.client)
    shard.place(deliver="direct")
    gone, new = changes(before, dump(shard.client))
    assert gone["free"] == {"n1"}
    leases = {"leases", "node:n1:leases", "tenant:acme:leases"}
    assert new.keys() == {P, "changed", *leases, "job:j1"}, "a direct job is not delivered"
    assert new["changed"] == {"n1": float(shard.meta("version"))}


def test_the_least_loaded_by_the_truth_wins_whatever_the_order_and_all_loads_are_told(shard: Shard) -> None:
    for node, slots in (("n1", 4), ("n2", 10), ("n3", 2)):
        shard.register(node, slots=slots)
    for job, node in (("a", "n1"), ("b", "n1"), ("c", "n2"), ("d", "n2"), ("e", "n3")):
        shard.place(job, node)
    answer = shard.claim("j1", "n1", "n3", "n2")
    assert (answer[2], answer[8:]) == (b"n2", [0, [2, 1, 2], 2, 10])


def test_pack_fills_the_fullest_node_first(shard: Shard) -> None:
    configure(shard, tight={"strategy": "pack"})
    shard.register("n1", slots=4)
    shard.register("n2", slots=4)
    shard.place("a", "n2")
    assert shard.claim("j1", "n1", "n2")[2] == b"n2"


def test_the_same_claim_again_exists_and_changes_nothing(shard: Shard) -> None:
    shard.register()
    first = shard.claim("j1", "n1")
    before = dump(shard.client)  # the clock may be written anew, and that alone
    assert shard.claim("j1", "n1") == [b"exists", b"claimed", *first[2:6], b"1", first[7]]
    assert shard.claim("j1", "n1", digest="other") == [b"differs"]
    assert dump(shard.client) == before


def test_a_stale_shortlist_is_no_refusal_redis_looks_itself(shard: Shard) -> None:
    shard.register("full", slots=1)
    shard.register("n1")
    shard.place("a", "full")
    answer = shard.claim("j1", "full", "gone")
    assert (answer[0], answer[2], answer[8:]) == (b"placed", b"n1", [1, [-1, -1], 0, 2])


def test_a_claim_never_exceeds_the_slots(shard: Shard) -> None:
    shard.register(slots=3)
    packed = [shard.packed(f"j{number}", "n1") for number in range(5)]
    answers = shard.call("job_claim", *packed)[1:]
    assert [answer[0] for answer in answers] == [b"placed"] * 3 + [b"refused"] * 2
    assert len(dump(shard.client)["node:n1:leases"]) == 3


def test_fences_of_one_job_id_rise_when_it_is_reused(shard: Shard) -> None:
    shard.register()
    first = int(shard.place())
    shard.call("job_finish", "j1", first, "succeeded")
    shard.client.delete(f"{P}:job:j1")
    assert int(shard.place()) > first


@pytest.mark.parametrize(
    ("spoil", "class_"),
    [("full", b"overloaded"), ("over", b"overloaded"), ("cordon", b"unavailable"), ("lost", b"unavailable"),
     ("excluded", b"unavailable"), ("other", b"impossible")],
)  # fmt: skip
def test_a_refusal_after_a_complete_look_names_its_class_and_makes_no_job(
    shard: Shard, spoil: str, class_: bytes
) -> None:
    incarnation = shard.register(slots=1)
    fields: dict[str, Any] = {}
    if spoil == "full":
        shard.place("a")
    elif spoil == "over":
        shard.call("node_heartbeat", "n1", incarnation, "mem", 99)
    elif spoil == "cordon":
        shard.call("node_mark", "n1", "cordon")
    elif spoil == "lost":
        shard.advance(3000)
        shard.call("reap")
    elif spoil == "excluded":
        fields["exclude"] = frozenset({NodeId("n1")})
    else:
        fields["requires"] = "asr:zh tts:en"
    before = dump(shard.client)
    shortlist = [] if spoil in {"excluded", "other"} else ["n1"]
    assert shard.claim("j1", *shortlist, **fields) == [b"refused", class_, [-1] * len(shortlist)]
    assert dump(shard.client) == before


def test_a_lapsed_node_that_a_claim_meets_is_taken_out(shard: Shard) -> None:
    shard.register("old")
    shard.register("n1", ttl_ms=60_000)
    shard.advance(3000)
    assert shard.claim("j1", "old")[2] == b"n1"
    state = dump(shard.client)
    assert (state["free"], state["node:old"]["state"]) == ({"n1"}, "lost")


def test_impossible_from_a_snapshot_counts_only_at_its_structure_version(shard: Shard) -> None:
    shard.register()
    stale = shard.packed("j1", requires="asr:zh", offered=False)
    shard.register("n2")
    assert shard.call("job_claim", stale)[1][0] == b"placed"
    assert shard.claim("j2", requires="nothing", offered=False) == [b"refused", b"impossible", []]


def test_a_caller_that_pages_is_told_to_go_on_until_its_last_page(shard: Shard) -> None:
    shard.register(slots=1)
    shard.place("a")
    last = shard.packed("j1", "n1", look=False, last=True)
    assert shard.claim("j1", "n1", look=False) == [b"again", b"page", [-1]]
    assert shard.call("job_claim", last)[1][:3] == [b"refused", b"overloaded", [-1]]
    shard.register("n2", "other")
    assert shard.call("job_claim", last)[1] == [b"again", b"structure", [-1]]


def test_isolation_holds_against_a_shortlist_from_an_old_configuration(shard: Shard) -> None:
    configure(shard, gold={"selector": {"labels": {"tier": "gold"}}, "tenants": ["rich"]}, rest={"priority": -1})
    shard.register("n1", labels="tier=gold")
    packed = shard.packed("j1", "n1", tenant="rich")
    assert shard.call("job_claim", packed)[1][4] == b"gold"
    version = shard.put("rest", selector={"labels": {"tier": "none"}})
    assert shard.claim("j2", "n1", known=False) == [b"refused", b"impossible", [-1]]
    state = dump(shard.client)
    assert (state["pool:gold"], state["settled"], "pool:rest" in state) == ({"n1"}, {"n1": float(version)}, False)


@pytest.mark.parametrize("pool", ["gold", "nowhere"])
def test_a_named_pool_that_is_not_the_tenants_is_denied(shard: Shard, pool: str) -> None:
    configure(shard, gold={"tenants": ["rich"]})
    shard.register()
    before = exact(shard.client)
    assert shard.claim("j1", "n1", pool=pool) == [b"denied"]
    assert {key: value for key, value in exact(shard.client).items() if key != P.encode()} == {
        key: value for key, value in before.items() if key != P.encode()
    }


@pytest.mark.parametrize(("fallback", "first"), [(True, b"placed"), (False, b"refused")])
def test_a_fallback_is_used_only_when_the_pool_has_no_slot_and_it_is_allowed(
    shard: Shard, first: bytes, *, fallback: bool
) -> None:
    configure(
        shard,
        gold={"selector": {"labels": {"tier": "gold"}}, "fallback": ["rest"]},
        rest={"selector": {"labels": {"tier": "low"}}},
    )
    shard.register("n1", labels="tier=gold", slots=1)
    shard.register("n2", labels="tier=low")
    assert shard.claim("a", "n2", pool="gold", known=False)[2:5:2] == [b"n1", b"gold"]
    answer = shard.claim("j1", "n1", pool="gold", fallback=fallback)
    assert answer[0] == first
    assert not fallback or answer[2:5:2] == [b"n2", b"rest"]


def test_a_sticky_session_stays_and_moves_only_when_its_node_cannot(shard: Shard) -> None:
    shard.register("n1", slots=2)
    shard.register("n2", slots=9)
    assert shard.claim("a", "n1", session="s", affinity="sticky")[2] == b"n1"
    assert shard.client.get(f"{P}:session:acme:s") == b"n1"
    assert 0 < int(shard.client.pttl(f"{P}:session:acme:s")) <= 1_800_000
    assert shard.claim("b", "n2", session="s", affinity="sticky")[2] == b"n1"
    assert shard.claim("c", "n2", session="s", affinity="sticky")[2] == b"n2"
    assert shard.client.get(f"{P}:session:acme:s") == b"n2"


def test_a_spread_session_leaves_its_node_if_another_can(shard: Shard) -> None:
    shard.register("n1", slots=9)
    assert shard.claim("a", "n1", session="s", affinity="spread")[2] == b"n1"
    assert shard.claim("b", "n1", session="s", affinity="spread")[2] == b"n1", "no other can"
    shard.register("n2")
    assert shard.claim("c", "n1", session="s", affinity="spread")[2] == b"n2"
    assert 0 < int(shard.client.pttl(f"{P}:session:acme:s")) <= 30_000


def test_a_broken_claim_in_a_batch_stops_all_of_it(shard: Shard) -> None:
    shard.register()
    good = shard.packed("j1", "n1")
    before = exact(shard.client)
    with pytest.raises(Exception, match=r"^BADARG claim "):
        shard.call("job_claim", good, b"\xc1")
    assert exact(shard.client) == before


def test_of_a_page_lapsed_nodes_are_taken_out_and_the_live_ones_considered(shard: Shard) -> None:
    names = [f"n{i:02}" for i in range(20)]
    for name in names:
        shard.register(name, slots=4)
    for name in names[:10]:
        shard.client.zadd(f"{P}:nodes", {name: 1})
    for name in names[10:]:
        shard.place(f"on-{name}", name)
    answer = shard.claim("j1", *names, look=False, last=True)
    assert (answer[0], answer[2] in {name.encode() for name in names[10:]}) == (b"placed", True)
    assert answer[9] == [-1] * 10 + [1] * 10
    assert dump(shard.client)["free"] == set(names[10:])
