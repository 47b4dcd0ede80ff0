"""reap: ends what time has ended, a bounded turn at a time; a second turn finds nothing to do."""

import pytest

from tests.lua.keyspace import NOW, P, changes, dump, exact
from tests.lua.shard import Shard

TEN_MINUTES_MS = 600_000


def test_an_unused_shard_stays_unused(shard: Shard) -> None:
    assert shard.call("reap") == [b"reaped", 0, 0, 0]
    assert dump(shard.client) == {}


def test_a_turn_with_nothing_due_changes_nothing_but_its_own_mark(shard: Shard) -> None:
    shard.register()
    shard.run()
    before = dump(shard.client)
    assert shard.call("reap") == [b"reaped", 0, 0, 0]
    assert changes(before, dump(shard.client)) == ({P: {}}, {P: {"reaped_ms": NOW}})


def test_a_lapsed_node_is_lost_and_its_jobs_end_but_it_stays_indexed(shard: Shard) -> None:
    incarnation = shard.register(slots=4)
    shard.run("j1", max_attempts=1)
    shard.place("j2", max_attempts=1)
    shard.run("j3", max_attempts=1)
    shard.call("job_cancel", "j3")
    before = dump(shard.client)
    shard.advance(3000)
    assert shard.call("reap") == [b"reaped", 1, 2, 2]
    gone, new = changes(before, dump(shard.client))
    now_ms = float(shard.meta("reaped_ms"))
    events = new.pop("events")[len(gone.pop("events")) :]
    assert events[0] == {"kind": "node_lost", "node": "n1", "incarnation": incarnation}
    assert sorted(entry["job"] for entry in events[1:]) == ["j1", "j2"]
    ended = {"state": "failed", "reason": "node_lost", "result": "", "ended_at_ms": NOW}
    version = shard.meta("version")
    assert new == {
        P: {"version": version, "reaped_ms": NOW, "reaped_nodes": "1", "reaped_leases": "2", "reaped_jobs": "2"},
        "changed": {"n1": float(version)},
        "node:n1": {"state": "lost"},
        "nodes": {"n1": now_ms + TEN_MINUTES_MS},
        "lost": {"n1": now_ms + TEN_MINUTES_MS},
        "job:j1": ended,
        "job:j2": ended,
        "job:j3": {},
    }
    assert gone.keys() | {"lost"} == new.keys() | {
        "free", "leases", "node:n1:leases", "node:n1:inbox", "node:n1:ending", "tenant:acme:leases",
    }  # fmt: skip
    for job in ("j1", "j2", "j3"):
        assert 0 < int(shard.client.pttl(f"{P}:job:{job}")) <= 3_600_000


def test_reaping_again_changes_nothing(shard: Shard) -> None:
    shard.register()
    shard.run()
    shard.advance(3000)
    shard.call("reap")
    before = dump(shard.client)
    assert shard.call("reap") == [b"reaped", 0, 0, 0]
    assert dump(shard.client) == before


def test_a_lost_node_is_removed_after_ten_minutes_and_its_tombstone_ten_minutes_later(shard: Shard) -> None:
    shard.register()
    shard.advance(3000)
    shard.call("reap")
    shard.advance(TEN_MINUTES_MS - 1000)
    shard.call("reap")
    assert shard.field("node:n1", "state") == "lost"
    shard.advance(1000)
    shard.call("reap")
    state = dump(shard.client)
    assert state.keys() == {P, "changed", "removed", "events"}
    assert state["events"][-1] == {"kind": "node_removed", "node": "n1", "reason": "lost"}
    version = shard.meta("version")
    assert state["changed"] == {"n1": float(version)}
    shard.advance(TEN_MINUTES_MS)
    shard.call("reap")
    assert dump(shard.client).keys() == {P, "events"}
    assert shard.meta("floor") == version, "a mirror that knows less must refill"


@pytest.mark.parametrize(
    ("start", "after_ms", "reason"), [(False, 500, "not_acknowledged"), (True, 700, "timed_out")]
)
def test_an_overdue_lease_ends_its_attempt(shard: Shard, after_ms: int, reason: str, *, start: bool) -> None:
    shard.register(slots=1, ttl_ms=60_000)
    fence = shard.place(ack_ms=500, timeout_ms=700, max_attempts=1)
    if start:
        shard.call("job_start", "j1", fence)
    assert shard.call("reap") == [b"reaped", 0, 0, 0]
    shard.advance(after_ms)
    assert shard.call("reap") == [b"reaped", 0, 1, 1]
    state = dump(shard.client)
    assert (state["job:j1"]["state"], state["job:j1"]["reason"]) == ("failed", reason)
    assert "leases" not in state
    if start:
        assert set(state["node:n1:leases"]) == {"j1"}, "the node may still be at work"
        assert state["node:n1:inbox"] == [{"kind": "cancel", "job": "j1", "fence": fence}]
        assert "free" not in state
        assert shard.call("job_finish", "j1", fence, "failed") == [b"duplicate"]
        state = dump(shard.client)
    assert state["free"] == {"n1"}
    assert state["node:n1:inbox"] == []
    assert "node:n1:leases" not in state


def test_a_timed_out_direct_job_frees_its_slot_at_once(shard: Shard) -> None:
    shard.register(slots=1, ttl_ms=60_000)
    shard.run(deliver="direct", timeout_ms=700)
    shard.advance(700)
    assert shard.call("reap") == [b"reaped", 0, 1, 1]
    state = dump(shard.client)
    assert state["free"] == {"n1"}
    assert not {"node:n1:leases", "node:n1:inbox", "node:n1:ending"} & state.keys()


def test_an_overdue_lease_of_a_node_that_is_gone_leaves_nothing_at_the_node(shard: Shard) -> None:
    for number in range(4):
        incarnation = shard.register(f"n{number}", ttl_ms=60_000)
        shard.run(f"j{number}", f"n{number}", timeout_ms=700, max_attempts=1)
        shard.call("node_remove", f"n{number}", incarnation)
    shard.advance(700)
    # one orphan and one lease a turn: leases meet jobs whose orphan is not reaped yet
    for _ in range(8):
        shard.call("reap", 1)
    state = dump(shard.client)
    assert not [key for key in state if "orphan" in key or key.startswith("node:") or "leases" in key]
    assert {state[f"job:j{number}"]["state"] for number in range(4)} == {"failed"}
    for number in range(4):
        assert int(shard.client.pttl(f"{P}:job:j{number}")) > 0


def test_a_turn_is_bounded_and_turns_page_through_everything(shard: Shard) -> None:
    for number in range(5):
        shard.register(f"n{number}")
    shard.register("big", slots=10, ttl_ms=60_000)
    for number in range(5):
        shard.place(f"j{number}", "big", ack_ms=500, deliver="direct")
    shard.advance(3000)
    assert shard.call("reap", 2) == [b"reaped", 2, 2, 2]
    assert shard.call("reap", 2) == [b"reaped", 2, 2, 2]
    assert shard.call("reap", 2) == [b"reaped", 1, 1, 1]
    assert shard.call("reap", 2) == [b"reaped", 0, 0, 0]
    assert dump(shard.client)["free"] == {"big"}


def test_leases_of_an_old_incarnation_never_touch_the_new_one(shard: Shard) -> None:
    shard.register()
    shard.run("old", max_attempts=1)
    shard.register()
    shard.run("new")
    assert shard.call("reap") == [b"reaped", 0, 1, 1]
    state = dump(shard.client)
    assert set(state["leases"]) == set(state["node:n1:leases"]) == {"new"}
    assert (state["job:old"]["reason"], state["job:new"]["state"]) == ("node_lost", "running")


def test_a_lease_whose_job_is_gone_is_swept(shard: Shard) -> None:
    shard.register()
    shard.place(ack_ms=500)
    shard.client.delete(f"{P}:job:j1")
    shard.advance(500)
    assert shard.call("reap") == [b"reaped", 0, 0, 0]
    assert "leases" not in exact_names(shard)


def exact_names(shard: Shard) -> set[str]:
    return {key.decode().removeprefix(f"{P}:") for key in exact(shard.client)}


def test_what_was_ever_reaped_is_counted_also_what_a_heartbeat_or_a_claim_reaps(shard: Shard) -> None:
    shard.register("n1")
    shard.place("j1", max_attempts=1)
    shard.register("n2", "gpu", ttl_ms=60_000)
    shard.advance(3000)
    assert shard.claim("j2", "n1")[0] == b"refused"
    assert (shard.meta("reaped_nodes"), shard.meta("reaped_leases")) == ("1", "0")
    shard.client.hset(P, "reaped_ms", 0)
    shard.beat("n2")
    assert [shard.meta(f"reaped_{kind}") for kind in ("nodes", "leases", "jobs")] == ["1", "1", "1"]
    shard.register("n3")
    shard.advance(3000)
    assert shard.call("reap") == [b"reaped", 1, 0, 0]
    assert [shard.meta(f"reaped_{kind}") for kind in ("nodes", "leases", "jobs")] == ["2", "1", "1"]
