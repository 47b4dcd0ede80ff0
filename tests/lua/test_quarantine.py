"""Quarantine: a node that fails job after job is set aside, for longer each time, and never too many at once."""

from tests.lua.keyspace import P, changes, dump
from tests.lua.shard import Shard

HALF_MS = 120_000


def fail(shard: Shard, times: int, node: str = "n1", outcome: str = "failed") -> None:
    for number in range(times):
        job = f"{outcome}-{shard.client.dbsize()}-{number}"
        assert shard.call("job_finish", job, shard.place(job, node), outcome) == [b"finished"]


def live(shard: Shard, *nodes: str) -> None:
    for node in nodes:
        shard.register(node, slots=4, ttl_ms=3_600_000)


def quarantined(shard: Shard) -> dict[str, float]:
    found: dict[str, float] = dump(shard.client).get("quarantined", {})
    return found


def clock(shard: Shard) -> int:
    shard.call("reap")
    return int(shard.meta("clock"))


def test_the_fifth_failure_in_a_row_sets_the_node_aside(shard: Shard) -> None:
    live(shard, "n1", "n2")
    fail(shard, 4)
    assert quarantined(shard) == {}
    assert dump(shard.client)["free"] == {"n1", "n2"}
    before = dump(shard.client)
    fail(shard, 1)
    assert 9_000 <= quarantined(shard)["n1"] - int(shard.meta("clock")) <= 10_200
    _, new = changes(before, dump(shard.client))
    assert new["free"] == {"n2"}
    assert new["changed"]["n1"] == float(shard.meta("version")), "the mirrors are told"
    assert new["node:n1"].keys() == {"failures", "failed_ms", "quarantines", "quarantined_until_ms"}
    assert new["events"][-2] == {"kind": "node_quarantined", "node": "n1", "reason": "handler_failed", "ms": "10000"}
    assert shard.claim("x", "n1")[2] == b"n2"


def test_a_success_forgives_half_and_three_all(shard: Shard) -> None:
    live(shard, "n1", "n2")
    fail(shard, 4)
    fail(shard, 1, outcome="succeeded")
    assert shard.field("node:n1", "failures").startswith(("1.9", "2.0"))
    fail(shard, 2)
    assert quarantined(shard) == {}
    fail(shard, 4, outcome="succeeded")
    assert shard.field("node:n1", "failures") == ""


def test_failures_are_forgotten_with_time(shard: Shard) -> None:
    live(shard, "n1", "n2")
    fail(shard, 4)
    shard.advance(3 * HALF_MS)
    fail(shard, 3)
    assert quarantined(shard) == {}


def test_reaping_lets_it_out_and_one_more_failure_doubles_the_time(shard: Shard) -> None:
    live(shard, "n1", "n2")
    fail(shard, 5)
    for ms in (20_000, 40_000):
        shard.advance(int(quarantined(shard)["n1"]) - clock(shard))
        shard.call("reap")
        assert quarantined(shard) == {}
        assert dump(shard.client)["free"] == {"n1", "n2"}
        fail(shard, 1)
        assert ms - 1_500 <= quarantined(shard)["n1"] - clock(shard) <= ms + 200


def test_a_heartbeat_lets_it_out_when_its_time_is_over_and_not_before(shard: Shard) -> None:
    incarnation = shard.register(slots=4, ttl_ms=3_600_000)
    fail(shard, 5)
    shard.call("node_heartbeat", "n1", incarnation)
    assert "free" not in dump(shard.client)
    # reaping, which a heartbeat does too, is not due
    shard.client.hset(P, "reaped_ms", 10**15)
    shard.advance(10_000)
    shard.call("node_heartbeat", "n1", incarnation)
    state = dump(shard.client)
    assert (state["free"], "quarantined" in state) == ({"n1"}, False)
    assert state["events"][-1] == {"kind": "node_released", "node": "n1"}


def test_an_operators_uncordon_and_a_new_registration_let_it_out(shard: Shard) -> None:
    live(shard, "n1")
    fail(shard, 5)
    assert shard.call("node_mark", "n1", "uncordon") == [b"marked", b"ready"]
    assert dump(shard.client)["free"] == {"n1"}
    fail(shard, 1)
    assert "n1" in quarantined(shard)
    live(shard, "n1")
    state = dump(shard.client)
    assert (state["free"], "quarantined" in state, "failures" in state["node:n1"]) == ({"n1"}, False, False)


def test_a_success_after_an_early_uncordon_forgives_as_ever(shard: Shard) -> None:
    live(shard, "n1", "n2")
    fail(shard, 5)
    for _ in range(5):
        shard.call("node_mark", "n1", "uncordon")
        fail(shard, 1)
    assert quarantined(shard)["n1"] - clock(shard) > 2 * HALF_MS
    shard.call("node_mark", "n1", "uncordon")
    fail(shard, 1, outcome="succeeded")
    fail(shard, 1)
    assert quarantined(shard) == {}


def test_never_more_than_half_of_the_nodes(shard: Shard) -> None:
    """A client whose jobs fail everywhere must not take the fleet away from all others."""
    nodes = [f"n{number}" for number in range(5)]
    live(shard, *nodes)
    for node in nodes:
        fail(shard, 7, node) if node not in quarantined(shard) and len(quarantined(shard)) >= 2 else fail(
            shard, 5, node
        )
    assert len(quarantined(shard)) == 2
    assert len(dump(shard.client)["free"]) == 3


def test_never_more_than_half_of_the_nodes_of_a_pool(shard: Shard) -> None:
    """A tenant whose jobs fail must not take a small pool of a large fleet away from the others that use it."""
    shard.put("small", selector={"labels": {"tier": "small"}})
    shard.put("large", selector={"labels": {"tier": "large"}})
    for number in range(8):
        tier = "small" if number < 3 else "large"
        shard.register(f"n{number}", slots=4, ttl_ms=3_600_000, labels=f"tier={tier}")
    for number in range(20):
        fence = shard.claim(f"j{number}", tenant="evil", pool="small")[5].decode()
        assert shard.call("job_finish", f"j{number}", fence, "failed") == [b"finished"]
    assert len(quarantined(shard)) == 1
    assert shard.claim("victim", tenant="acme", pool="small")[0] == b"placed"
    fail(shard, 5, "n5")
    assert "n5" in quarantined(shard), "the other pool has room of its own"


def test_a_job_that_is_not_acknowledged_or_runs_out_of_time_counts_a_direct_one_does_not(shard: Shard) -> None:
    live(shard, "n1", "n2")
    for number in range(2):
        shard.place(f"claimed{number}", "n1", ack_ms=500, max_attempts=1)
        shard.run(f"running{number}", "n1", timeout_ms=500, max_attempts=1)
    shard.place("direct", "n2", ack_ms=500, deliver="direct")
    shard.advance(500)
    assert shard.call("reap") == [b"reaped", 0, 5, 5]
    assert float(shard.field("node:n1", "failures")) > 3.9
    assert shard.field("node:n2", "failures") == ""


def test_what_a_gone_incarnation_did_is_not_held_against_the_new_one(shard: Shard) -> None:
    live(shard, "n1")
    for number in range(4):
        shard.place(f"j{number}", "n1", ack_ms=500)
    live(shard, "n1")
    shard.advance(500)
    shard.call("reap")
    assert shard.field("node:n1", "failures") == ""


def test_a_removed_node_leaves_no_trace_of_its_quarantine(shard: Shard) -> None:
    live(shard, "n1")
    fail(shard, 5)
    shard.call("node_remove", "n1", shard.field("node:n1", "incarnation"))
    assert quarantined(shard) == {}
