"""The shard clock: at most 1 s a step behind the server's time, never back, still while nothing calls."""

import time

import pytest

from tests.lua.keyspace import P, dump, exact
from tests.lua.shard import Shard


def clock(shard: Shard) -> int:
    return int(shard.meta("clock"))


def away(shard: Shard, ms: int) -> None:
    """The server was away: it last saw the wall clock that long ago."""
    shard.client.hincrby(P, "clock_seen_at_ms", -ms)


def test_a_new_shard_begins_with_the_wall_clock(shard: Shard) -> None:
    shard.register()
    assert abs(clock(shard) - time.time() * 1000) < 2000
    assert shard.meta("clock") == shard.meta("clock_seen_at_ms")


def test_a_long_absence_is_one_second(shard: Shard) -> None:
    incarnation = shard.register()
    before = clock(shard)
    away(shard, 3_600_000)
    assert shard.call("reap") == [b"reaped", 0, 0, 0], "an outage does not expire a fleet"
    assert clock(shard) == before + 1000
    assert shard.call("node_heartbeat", "n1", incarnation) == [b"ok", 3000]


def test_a_short_absence_is_counted_as_it_was(shard: Shard) -> None:
    shard.register()
    before, seen = clock(shard), int(shard.meta("clock_seen_at_ms"))
    away(shard, 500)
    shard.call("reap")
    passed = int(shard.meta("clock_seen_at_ms")) - (seen - 500)
    assert 500 <= passed < 1000
    assert clock(shard) == before + passed


def test_steps_of_less_than_100_ms_are_not_written_and_not_lost(shard: Shard) -> None:
    shard.register()
    before, seen = clock(shard), int(shard.meta("clock_seen_at_ms"))
    deadline = time.monotonic() + 10
    calls = 0
    while clock(shard) == before and time.monotonic() < deadline:
        shard.call("reap")
        calls += 1
    assert calls > 5
    step = clock(shard) - before
    assert 100 <= step < 1000
    assert int(shard.meta("clock_seen_at_ms")) - seen == step


def test_a_wall_clock_that_steps_back_does_not_take_the_shard_clock_back(shard: Shard) -> None:
    shard.register()
    before = clock(shard)
    away(shard, -3_600_000)
    shard.call("reap")
    assert before < clock(shard) <= before + 1000
    assert abs(int(shard.meta("clock_seen_at_ms")) - time.time() * 1000) < 2000
    again = clock(shard)
    away(shard, 500)
    shard.call("reap")
    assert again + 500 <= clock(shard) <= again + 1000, "and it goes on from there"


@pytest.mark.parametrize("step_ms", [3_600_000, -3_600_000])
def test_a_wall_clock_that_steps_by_an_hour_expires_no_node_lease_or_wait(shard: Shard, step_ms: int) -> None:
    incarnation = shard.register(slots=2)
    running, claimed = shard.run("j1"), shard.place("j2")
    assert shard.claim("w1", "n1", wait_ms=5_000)[0] == b"waiting"
    before = dump(shard.client)
    # it saw the wall clock an hour earlier, or later, than it sees it now
    away(shard, step_ms)
    for _ in range(3):
        assert shard.call("reap") == [b"reaped", 0, 0, 0]
    after = dump(shard.client)
    assert {key: after[key] for key in after if key != P} == {key: before[key] for key in before if key != P}
    assert shard.call("node_heartbeat", "n1", incarnation)[:2] == [b"ok", 3000]
    assert shard.call("job_start", "j2", claimed)[0] == b"running"
    assert shard.call("job_finish", "j1", running, "succeeded") == [b"finished"]
    assert shard.field("job:w1", "state") == "claimed", "and the slot goes to the job that waits"


def test_reading_sees_time_pass_but_writes_nothing(shard: Shard) -> None:
    shard.register()
    away(shard, 500)
    before = exact(shard.client)
    shard.call("mirror_read", 0, 0, "")
    assert exact(shard.client) == before


def test_an_emptied_server_has_a_new_epoch(shard: Shard) -> None:
    shard.register()
    first = shard.meta("epoch")
    shard.register("n2")
    assert shard.meta("epoch") == first
    shard.client.flushall()
    shard.register()
    assert len(first) == len(shard.meta("epoch")) == 16
    assert shard.meta("epoch") != first


def test_fences_and_incarnations_rise_though_the_shard_clock_stands_still(shard: Shard) -> None:
    first = int(shard.register())
    away(shard, -3_600_000)
    assert int(shard.register()) > first
