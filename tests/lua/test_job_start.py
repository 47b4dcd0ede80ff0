"""job_start: the work begins, once in effect; the payload is handed over and the time limit is the deadline."""

import pytest

from tests.lua.keyspace import NOW, P, changes, dump, exact
from tests.lua.shard import Shard


def test_start_takes_the_delivery_and_moves_the_deadline(shard: Shard) -> None:
    shard.register()
    fence = shard.place(payload='{"a":1}', timeout_ms=5000)
    before = dump(shard.client)
    assert shard.call("job_start", "j1", fence) == [b"running", 5000, b'{"a":1}', 1]
    gone, new = changes(before, dump(shard.client))
    started_ms = int(shard.field("job:j1", "started_ms"))
    assert new == {
        "job:j1": {"state": "running", "started_at_ms": NOW, "started_ms": str(started_ms)},
        "node:n1:inbox": [],
        "node:n1:leases": {"j1": started_ms + 5000.0},
        "leases": {"j1": started_ms + 5000.0},
    }
    assert gone["job:j1"] == {"state": "claimed", "entry": NOW}
    assert gone["node:n1:inbox"] == [{"kind": "job", "job": "j1", "fence": fence}]


def test_start_without_a_payload_or_limit_has_the_defaults(shard: Shard) -> None:
    shard.register()
    assert shard.call("job_start", "j1", shard.place()) == [b"running", 600_000, b"", 1]


def test_a_repeated_start_answers_again_and_changes_nothing(shard: Shard) -> None:
    shard.register()
    fence = shard.run(payload="{}", timeout_ms=5000)
    before = exact(shard.client)
    shard.client.hincrby(P, "clock", 0)
    word, remaining_ms, payload, _ = shard.call("job_start", "j1", fence)
    assert (word, payload) == (b"running", b"{}")
    assert 0 <= remaining_ms <= 5000
    assert exact(shard.client) == before
    shard.advance(6000)
    assert shard.call("job_start", "j1", fence) == [b"running", 0, b"{}", 1]


@pytest.mark.parametrize("off", [-1, 1])
def test_start_with_another_fence_changes_nothing(shard: Shard, off: int) -> None:
    shard.register()
    fence = int(shard.place())
    before = exact(shard.client)
    assert shard.call("job_start", "j1", fence + off) == [b"fenced"]
    assert exact(shard.client) == before


def test_an_ended_job_cannot_start(shard: Shard) -> None:
    shard.register()
    fence = shard.place()
    shard.call("job_cancel", "j1")
    before = exact(shard.client)
    assert shard.call("job_start", "j1", fence) == [b"fenced"]
    assert exact(shard.client) == before


def test_an_unknown_job_makes_no_key(shard: Shard) -> None:
    assert shard.call("job_start", "j1", 1) == [b"unknown"]
    assert dump(shard.client) == {}


@pytest.mark.parametrize("gone", ["registered again", "removed"])
def test_the_process_of_an_old_incarnation_cannot_start_and_takes_no_slot(shard: Shard, gone: str) -> None:
    incarnation = shard.register()
    fence = shard.place()
    if gone == "removed":
        shard.call("node_remove", "n1", incarnation)
    else:
        shard.register()
    before = exact(shard.client)
    assert shard.call("job_start", "j1", fence) == [b"fenced"]
    assert exact(shard.client) == before


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_the_trace_of_the_request_is_told_at_every_start(shard: Shard) -> None:
    shard.register(slots=1)
    first = shard.place(traceparent=TRACE)
    assert shard.field("job:j1", "traceparent") == TRACE
    told = shard.call("job_start", "j1", first)
    assert told[2:] == [b"", 1, TRACE.encode()]
    assert shard.call("job_start", "j1", first)[3:] == told[3:], "a repeated start tells it again"
    # the job waits for a node, for the one that handed it back does not get it
    assert shard.call("job_finish", "j1", first, "released") == [b"finished"]
    assert shard.field("job:j1", "state") == "pending"
    shard.register("n2", slots=1)
    assert shard.field("job:j1", "node") == "n2"
    assert shard.call("job_start", "j1", shard.field("job:j1", "fence"))[2:] == [b"", 2, TRACE.encode()]


def test_a_job_that_had_to_wait_has_the_trace_of_its_request(shard: Shard) -> None:
    shard.register(slots=1)
    first = shard.run()
    assert shard.claim("j2", "n1", wait_ms=60_000, traceparent=TRACE)[0] == b"waiting"
    shard.call("job_finish", "j1", first, "succeeded")
    assert shard.call("job_start", "j2", shard.field("job:j2", "fence"))[3:] == [1, TRACE.encode()]


def test_a_job_without_a_trace_has_no_field_for_it(shard: Shard) -> None:
    shard.register()
    shard.run()
    assert "traceparent" not in dump(shard.client)["job:j1"]
