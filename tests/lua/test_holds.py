"""A held slot: counts as used, delivers nothing, becomes one job's or lapses, and is over then for ever."""

from typing import Any

import msgpack
import pytest

from tests.lua.keyspace import P, changes, dump
from tests.lua.shard import Shard

HOLD_MS = 2_000
OVER = {"hold:h1": ""}


def hold(shard: Shard, name: str = "h1", *nodes: str, **fields: Any) -> list[Any]:
    return shard.claim(name, *(nodes or ("n1",)), digest="-", hold=name, hold_ms=HOLD_MS, **fields)


def commit(shard: Shard, name: str = "h1", job: str = "j1", **fields: Any) -> list[Any]:
    return shard.claim(job, hold=name, **fields)


@pytest.fixture
def held(shard: Shard) -> Shard:
    """One slot of two is held."""
    shard.register(slots=2)
    assert hold(shard) == [b"held", [0]]
    return shard


def used(shard: Shard, node: str = "n1") -> tuple[int, bool]:
    """Its used slots, and whether it is free."""
    state = dump(shard.client)
    return len(state.get(f"node:{node}:leases", ())), node in state.get("free", ())


def test_a_hold_takes_a_slot_and_nothing_else(shard: Shard) -> None:
    incarnation = shard.register(slots=2)
    before = dump(shard.client)
    assert hold(shard, session="s", affinity="sticky", payload="{}") == [b"held", [0]]
    gone, new = changes(before, dump(shard.client))
    deadline = new["leases"]["h1"]
    assert 0 <= deadline - int(shard.meta("clock")) - HOLD_MS <= 100
    assert (gone, new) == (
        {},
        {
            "hold:h1": f"n1 {incarnation} default 0 acme",
            "tenant:acme:leases": {"h1": new["tenant:acme:leases"]["h1"]},
            "leases": {"h1": deadline},
            "node:n1:leases": {"h1": deadline},
        },
    )


def test_the_last_slot_that_is_held_fills_the_node(held: Shard) -> None:
    assert used(held) == (1, True)
    assert hold(held, "h2")[0] == b"held"
    assert used(held) == (2, False)
    assert hold(held, "h3")[0] == b"refused"
    assert held.claim("j9", "n1")[0] == b"refused"
    assert held.call("hold_drop", "h2") == [b"dropped"]
    assert used(held) == (1, True)


def test_the_same_hold_again_changes_nothing(held: Shard) -> None:
    before = dump(held.client)
    assert hold(held) == [b"held", []]
    assert dump(held.client) == before


def test_a_commit_gives_the_job_the_slot_and_delivers_it(held: Shard) -> None:
    before = dump(held.client)
    answer = commit(held, payload="{}", session="s", affinity="sticky")
    fence = answer[5].decode()
    assert answer[:7] == [b"placed", b"j1", b"n1", b"http://n1", b"default", fence.encode(), 1]
    gone, new = changes(before, dump(held.client))
    assert new.pop("job:j1").items() >= {"state": "claimed", "node": "n1", "fence": fence, "payload": "{}"}.items()
    deadline = new["leases"]["j1"]
    assert new == {
        **OVER,
        "tenant:acme:leases": {"j1": float(fence)},
        "leases": {"j1": deadline},
        "node:n1:leases": {"j1": deadline},
        "node:n1:inbox": [{"kind": "job", "job": "j1", "fence": fence}],
        "session:acme:s": "n1",
    }
    assert gone.keys() == {"hold:h1", "leases", "node:n1:leases", "tenant:acme:leases"}
    assert used(held) == (1, True)
    assert 0 < int(held.client.pttl(f"{P}:hold:h1")) <= 60_000


def test_a_commit_on_a_node_that_the_hold_filled_leaves_it_full(held: Shard) -> None:
    hold(held, "h2")
    assert commit(held, "h2")[0] == b"placed"
    assert used(held) == (2, False)


def test_the_same_commit_again_finds_the_job(held: Shard) -> None:
    placed = commit(held)
    before = dump(held.client)
    again = commit(held)
    assert again[:3] == [b"exists", b"claimed", b"n1"]
    assert again[5] == placed[5]
    assert dump(held.client) == before


def test_a_hold_makes_one_job_only(held: Shard) -> None:
    commit(held)
    before = dump(held.client)
    assert commit(held, job="j2") == [b"lapsed"]
    assert dump(held.client) == before


def test_a_commit_of_a_job_that_is_here_gives_the_slot_back(held: Shard) -> None:
    fence = held.place()
    assert used(held) == (2, False)
    answer = commit(held)
    assert (answer[:3], answer[5]) == ([b"exists", b"claimed", b"n1"], fence.encode())
    assert used(held) == (1, True)
    assert dump(held.client)["leases"].keys() == {"j1"}
    assert commit(held, digest="other") == [b"differs"]


def test_a_hold_lapses_by_reaping_and_is_over(held: Shard) -> None:
    hold(held, "h2")
    held.advance(HOLD_MS - 500)
    held.call("reap")
    assert used(held) == (2, False)
    held.advance(600)
    assert held.call("reap") == [b"reaped", 0, 0, 0]
    state = dump(held.client)
    assert used(held) == (0, True)
    assert (state["hold:h1"], state["hold:h2"], "leases" in state) == ("", "", False)
    for over in (commit(held), hold(held)):
        assert over == [b"lapsed"]
    assert "job:j1" not in dump(held.client)
    assert held.call("hold_drop", "h1") == [b"unknown"]


@pytest.mark.parametrize("end", ["dropped", "committed"])
def test_a_call_to_hold_that_comes_late_does_not_bring_a_slot_back(held: Shard, end: str) -> None:
    if end == "dropped":
        held.call("hold_drop", "h1")
    else:
        commit(held)
    before = dump(held.client)
    assert hold(held) == [b"lapsed"]
    assert dump(held.client) == before
    assert commit(held, job="j2") == [b"lapsed"]


def test_a_drop_gives_the_slot_back_once(held: Shard) -> None:
    before = dump(held.client)
    assert held.call("hold_drop", "h1") == [b"dropped"]
    gone, new = changes(before, dump(held.client))
    assert new == OVER
    assert gone.keys() == {"hold:h1", "leases", "node:n1:leases", "tenant:acme:leases"}
    after = dump(held.client)
    assert held.call("hold_drop", "h1") == [b"unknown"]
    assert held.call("hold_drop", "h9") == [b"unknown"]
    assert dump(held.client) == after


def test_a_slot_that_is_dropped_serves_a_job_that_waits(shard: Shard) -> None:
    shard.register(slots=1)
    hold(shard)
    assert shard.claim("j1", "n1", wait_ms=60_000)[0] == b"waiting"
    shard.call("hold_drop", "h1")
    assert shard.field("job:j1", "state") == "claimed"


def lost(shard: Shard) -> None:
    shard.client.zadd(f"{P}:nodes", {"n1": 1})
    assert shard.call("reap")[1] == 1


def removed(shard: Shard) -> None:
    shard.call("node_remove", "n1", shard.field("node:n1", "incarnation"))


def registered_anew(shard: Shard) -> None:
    shard.register(slots=2)


def configured_anew(shard: Shard) -> None:
    shard.put("gold", tenants=["acme"])


def cordoned(shard: Shard) -> None:
    shard.call("node_mark", "n1", "cordon")


@pytest.mark.parametrize("between", [lost, removed, registered_anew, configured_anew, cordoned])
def test_a_hold_does_not_outlive_what_it_was_given_for(held: Shard, between: Any) -> None:
    between(held)
    assert commit(held) == [b"lapsed"]
    state = dump(held.client)
    assert (state["hold:h1"], state.get("leases"), "job:j1" in state) == ("", None, False)
    assert "node:n1:leases" not in state
    if between in {registered_anew, configured_anew}:
        assert used(held) == (0, True)
    # a lost node's leases are set apart, the hold among them; reaping finds nothing to end there
    assert held.call("reap") == [b"reaped", 0, 0, 0]
    assert not {key for key in dump(held.client) if key.startswith("orphan")}


def test_slots_that_are_lowered_take_no_held_slot_away(held: Shard) -> None:
    held.place("j2")
    held.beat(slots=1)
    assert commit(held)[0] == b"placed"
    assert used(held) == (2, False)


def test_a_hold_is_refused_as_a_claim_is(shard: Shard) -> None:
    shard.register(slots=1)
    before = dump(shard.client)
    assert hold(shard, requires="tts:en", known=False) == [b"refused", b"impossible", [-1]]
    assert dump(shard.client) == before
    shard.put("gold", tenants=["other"])
    assert hold(shard, pool="gold") == [b"denied"]


def test_a_hold_goes_to_the_node_of_the_session_and_does_not_make_one(shard: Shard) -> None:
    shard.register("n1", slots=9)
    shard.register("n2", slots=9)
    shard.place("j1", "n2", session="s", affinity="sticky")
    assert hold(shard, "h1", "n1", session="s", affinity="sticky")[0] == b"held"
    assert dump(shard.client)["hold:h1"].startswith("n2 ")
    hold(shard, "h2", "n1", session="t", affinity="sticky")
    assert not shard.client.exists(f"{P}:session:acme:t")


def test_a_job_arrives_with_all_that_it_was(held: Shard) -> None:
    packed = {"attempt": 4, "last_fence": str(2**52), "created_at_ms": "17", "releases": 2, "released_by": "n9:5"}
    answer = commit_packed(held, packed)
    assert (answer[0], answer[5].decode(), answer[6]) == (b"placed", str(2**52 + 1), 5)
    job = {name: held.client.hget(f"{P}:job:j1", name) for name in ("created_at_ms", "releases", "released_by")}
    assert job == {"created_at_ms": b"17", "releases": b"2", "released_by": b"n9:5"}


def commit_packed(shard: Shard, fields: dict[str, Any]) -> list[Any]:
    claim = msgpack.unpackb(shard.packed("j1", hold="h1")) | fields
    return shard.call("job_claim", msgpack.packb(claim, use_bin_type=False))[1]  # type: ignore[no-any-return]
