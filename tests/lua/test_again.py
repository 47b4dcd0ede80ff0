"""Attempts that end without their job: the next one goes elsewhere, under a new fence, as often as the job allows."""

from typing import Any

import pytest

from tests.lua.keyspace import P, dump
from tests.lua.shard import Shard


def live(shard: Shard, *nodes: str, slots: int = 2) -> None:
    for node in nodes:
        shard.register(node, slots=slots, ttl_ms=3_600_000)


def job(shard: Shard, name: str = "j1") -> dict[str, str]:
    found: dict[str, str] = dump(shard.client)[f"job:{name}"]
    return found


def lapse(shard: Shard, node: str) -> None:
    shard.client.zadd(f"{P}:nodes", {node: 1})


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("by", ["lost", "not_acknowledged", "timed_out"])
def test_an_attempt_that_time_ends_is_followed_by_one_elsewhere_in_the_same_call(
    shard: Shard, by: str, *, started: bool
) -> None:
    if (by == "not_acknowledged" and started) or (by == "timed_out" and not started):
        return
    live(shard, "n1", "n2")
    fence = shard.run(timeout_ms=500) if started else shard.place(ack_ms=500)
    if by == "lost":
        lapse(shard, "n1")
        assert shard.call("reap") == [b"reaped", 1, 1, 0]
    else:
        shard.advance(500)
        assert shard.call("reap") == [b"reaped", 0, 1, 0]
    now = job(shard)
    reason = "node_lost" if by == "lost" else by
    assert (now["state"], now["node"], now["attempt"], now["reason"]) == ("claimed", "n2", "2", reason)
    assert int(now["fence"]) > int(fence)
    state = dump(shard.client)
    assert set(state["leases"]) == set(state["node:n2:leases"]) == {"j1"}
    assert state["node:n2:inbox"] == [{"kind": "job", "job": "j1", "fence": now["fence"]}]
    assert [event["kind"] for event in state["events"]][-2:] == ["job_retried", "job_placed"]
    assert state["events"][-2] == {
        "kind": "job_retried", "job": "j1", "tenant": "acme", "node": "n1", "attempt": "1", "reason": reason,
    }  # fmt: skip
    for call, *more in (("job_start",), ("job_finish", "succeeded")):
        assert shard.call(call, "j1", fence, *more) == [b"fenced"], "the old attempt is over"


def test_a_timed_out_attempt_keeps_its_slot_until_its_node_confirms_though_the_job_ended_elsewhere(
    shard: Shard,
) -> None:
    live(shard, "n1", "n2")
    old = shard.run(timeout_ms=500)
    shard.advance(500)
    shard.call("reap")
    new = job(shard)["fence"]
    assert set(dump(shard.client)["node:n1:leases"]) == {"j1"}
    assert shard.call("job_finish", "j1", new, "succeeded", "r") == [b"finished"]
    assert shard.client.pttl(f"{P}:job:j1") == -1, "it must be known until the last confirmation"
    assert shard.call("job_finish", "j1", old, "failed") == [b"fenced"]
    state = dump(shard.client)
    assert not {"node:n1:leases", "node:n1:ending", "leases"} & state.keys()
    assert (state["job:j1"]["state"], state["job:j1"]["result"]) == ("succeeded", "r")
    assert 0 < int(shard.client.pttl(f"{P}:job:j1")) <= 3_600_000


def test_a_job_never_goes_where_an_attempt_of_it_still_holds_a_slot(shard: Shard) -> None:
    live(shard, "n1")
    shard.run(timeout_ms=500)
    shard.advance(500)
    shard.call("reap")
    assert job(shard)["state"] == "pending"
    shard.call("node_heartbeat", "n1", shard.field("node:n1", "incarnation"))
    assert job(shard)["state"] == "pending"
    (held,) = dump(shard.client)["node:n1:ending"].values()
    shard.call("job_finish", "j1", held.split()[0], "failed")
    shard.call("reap")
    assert (job(shard)["state"], job(shard)["attempt"]) == ("claimed", "2")


def test_attempts_are_bounded_and_the_last_reason_is_kept(shard: Shard) -> None:
    live(shard, "n1", "n2")
    shard.place(ack_ms=500, max_attempts=2)
    for ended in (0, 1):
        shard.advance(500)
        assert shard.call("reap") == [b"reaped", 0, 1, ended]
    now = job(shard)
    assert (now["state"], now["reason"], now["attempt"]) == ("failed", "not_acknowledged", "2")
    assert 0 < int(shard.client.pttl(f"{P}:job:j1")) <= 3_600_000


def test_a_failed_handler_is_final_unless_the_job_says_otherwise(shard: Shard) -> None:
    live(shard, "n1", "n2")
    once, again = shard.place("once"), shard.place("again", retry_failed=True)
    shard.call("job_finish", "once", once, "failed", "broken")
    assert (job(shard, "once")["state"], job(shard, "once")["result"]) == ("failed", "broken")
    shard.call("job_finish", "again", again, "failed", "broken")
    assert (job(shard, "again")["state"], job(shard, "again")["attempt"]) == ("claimed", "2")
    for _ in range(2):
        shard.call("job_finish", "again", job(shard, "again")["fence"], "failed", "still broken")
    last = job(shard, "again")
    assert (last["state"], last["reason"], last["result"]) == ("failed", "handler_failed", "still broken")


def test_a_job_that_is_handed_back_goes_to_another_node_and_spends_no_attempt(shard: Shard) -> None:
    live(shard, "n1", "n2", slots=1)
    fence = shard.place(max_attempts=1)
    assert shard.call("job_finish", "j1", fence, "released") == [b"finished"]
    assert (job(shard)["state"], job(shard)["node"]) == ("claimed", "n2")
    assert shard.call("job_finish", "j1", fence, "released") == [b"fenced"], "a repeated call does nothing"
    shard.advance(10_000)
    shard.call("reap")
    assert (job(shard)["state"], job(shard)["reason"]) == ("failed", "not_acknowledged")


def test_a_job_that_its_only_node_hands_back_waits_for_another_or_a_new_incarnation(shard: Shard) -> None:
    live(shard, "n1")
    shard.call("job_finish", "j1", shard.place(), "released")
    for _ in range(3):
        shard.call("reap")
        shard.call("node_heartbeat", "n1", shard.field("node:n1", "incarnation"))
    assert job(shard)["state"] == "pending"
    live(shard, "n1")
    assert (job(shard)["state"], job(shard)["node"]) == ("claimed", "n1")


def test_a_retry_keeps_the_pools_exclusions_and_languages_of_its_job(shard: Shard) -> None:
    shard.call("pool_put", "gold", '{"selector":{"labels":{"tier":"gold"}}}')
    shard.call("pool_put", "rest", '{"selector":{"labels":{"tier":"rest"}}}')
    shard.register("n1", labels="tier=gold", ttl_ms=3_600_000)
    shard.register("n2", labels="tier=rest", ttl_ms=3_600_000)
    shard.place(pool="gold", fallback=False, ack_ms=500)
    shard.call("node_mark", "n1", "cordon")
    shard.advance(500)
    shard.call("reap")
    assert job(shard)["state"] == "pending", "another pool than the one that was named is no place for it"
    shard.call("node_mark", "n1", "uncordon")
    assert (job(shard)["state"], job(shard)["pool"]) == ("claimed", "gold")


def test_a_direct_job_is_its_callers_to_try_again(shard: Shard) -> None:
    live(shard, "n1", "n2")
    shard.place(deliver="direct", ack_ms=500)
    shard.advance(500)
    assert shard.call("reap") == [b"reaped", 0, 1, 1]
    assert (job(shard)["state"], job(shard)["reason"]) == ("failed", "not_acknowledged")


def test_a_retried_job_that_finds_no_slot_in_its_time_expires(shard: Shard) -> None:
    live(shard, "n1")
    shard.place()
    lapse(shard, "n1")
    shard.call("reap")
    shard.advance(60_000)
    assert shard.call("reap") == [b"reaped", 0, 0, 1]
    assert (job(shard)["state"], job(shard)["reason"]) == ("expired", "unavailable")


def events(shard: Shard, kind: str) -> list[Any]:
    return [event for event in dump(shard.client)["events"] if event["kind"] == kind]


def test_when_more_than_half_of_ten_nodes_lapse_at_once_reaping_pauses_for_half_a_minute(shard: Shard) -> None:
    nodes = [f"n{number}" for number in range(10)]
    live(shard, *nodes)
    shard.run("j1", "n0", timeout_ms=3_600_000)
    for node in nodes[:6]:
        lapse(shard, node)
    assert shard.call("reap") == [b"reaped", 0, 0, 0]
    assert len(events(shard, "reaping_paused")) == 1
    answer = shard.claim("j2", "n1", "n2")
    assert answer[2].decode() in nodes[6:], "they are not given jobs meanwhile"
    assert shard.call("node_heartbeat", "n0", shard.field("node:n0", "incarnation"))[0] == b"ok", "and may come back"
    shard.advance(15_000)
    shard.call("reap")
    shard.advance(16_000)
    assert shard.call("reap")[1] == 0, "five of ten is not more than half: the pause is over"
    assert {shard.field(f"node:{node}", "state") for node in nodes[1:6]} <= {"ready", "lost"}


def test_the_pause_is_limited_in_time(shard: Shard) -> None:
    nodes = [f"n{number}" for number in range(10)]
    live(shard, *nodes)
    for node in nodes[:7]:
        lapse(shard, node)
    assert shard.call("reap")[1] == 0
    shard.advance(30_000)
    assert shard.call("reap")[1] == 7
    assert "paused_ms" not in dump(shard.client)[P] or shard.call("reap")[1] == 0


def test_nine_nodes_are_too_few_to_doubt_the_network(shard: Shard) -> None:
    nodes = [f"n{number}" for number in range(9)]
    live(shard, *nodes)
    for node in nodes:
        lapse(shard, node)
    assert shard.call("reap")[1] == 9


def test_a_pause_after_which_all_came_back_does_not_spend_the_next_one(shard: Shard) -> None:
    nodes = [f"n{number}" for number in range(10)]
    live(shard, *nodes)
    for again in (1, 2):
        for node in nodes[:7]:
            lapse(shard, node)
        assert shard.call("reap")[1] == 0
        assert len(events(shard, "reaping_paused")) == again
        # no heartbeat reaps on the way, while less than half are still to come back
        shard.client.hset(P, "reaped_ms", 10**15)
        for node in nodes:
            shard.beat(node)
        shard.call("reap")
        shard.advance(600_000)
