"""job_move, job_return, job_settle, moves_due: a job leaves for another shard, and is somewhere at each step."""

import json
from typing import Any

import msgpack
import pytest

from scheduler.domain.ids import JobId
from scheduler.store.codec import pack_moved
from tests.lua.keyspace import NOW, P, changes, dump
from tests.lua.shard import Shard

RETRY_MS, LOOK_MS, HOUR_MS = 2_500, 600_000, 3_600_000


def is_due_in(shard: Shard, ms: int, job: str = "j1") -> bool:
    """The clock is written at most every 100 ms."""
    score: Any = shard.client.zscore(f"{P}:moved", job)
    return abs(float(score) - int(shard.meta("clock")) - ms) <= 300


def note(shard: Shard, tag: str = "1", hold: str = "h1", job: str = "j1") -> list[Any]:
    """A client's job, which no shard has yet."""
    return shard.call("job_move", job, tag, hold, "acme", "d")


def move(shard: Shard, tag: str = "1", hold: str = "h1", job: str = "j1") -> list[Any]:
    """A job that waits here."""
    return shard.call("job_move", job, tag, hold)


def due(shard: Shard, maximum: int = 32) -> list[Any]:
    word, packed = shard.call("moves_due", maximum)
    assert word == b"due"
    moves = msgpack.unpackb(packed, raw=True)
    return [[job.decode(), tag.decode(), hold.decode(), settled] for job, tag, hold, settled, _ in moves]


@pytest.fixture
def waiting(shard: Shard) -> Shard:
    """j0, j1 and j2 wait, in that order; j3 has the only slot."""
    shard.register(slots=1, ttl_ms=600_000)
    shard.place("j3")
    for job in ("j0", "j1", "j2"):
        assert shard.claim(job, "n1", wait_ms=60_000, payload=f'"{job}"')[0] == b"waiting"
        shard.advance(1_000)
    return shard


def queue_of(shard: Shard) -> list[str]:
    (name,) = (key for key in dump(shard.client) if key.startswith("queue:"))
    return [job.decode() for job in shard.client.zrange(f"{P}:{name}", 0, -1)]  # type: ignore[union-attr]


def test_a_job_that_no_shard_has_is_noted_at_home(shard: Shard) -> None:
    assert note(shard) == [b"moved", b""]
    state = dump(shard.client)
    assert state["job:j1"] == {"state": "moved", "shard": "1", "hold": "h1", "tenant": "acme", "digest": "d"}
    assert state.keys() == {P, "job:j1", "moved"}
    assert is_due_in(shard, RETRY_MS)


def test_of_several_moves_one_wins(shard: Shard) -> None:
    note(shard)
    before = dump(shard.client)
    assert note(shard, "2", "h2") == [b"elsewhere", b"1", b"h1"]
    assert note(shard) == [b"elsewhere", b"1", b"h1"]
    assert move(shard, "2", "h2") == [b"elsewhere", b"1", b"h1"]
    assert dump(shard.client) == before


def test_a_job_that_is_here_is_not_moved_for_its_client(waiting: Shard) -> None:
    before = dump(waiting.client)
    assert note(waiting) == [b"here"]
    assert note(waiting, job="j3") == [b"here"]
    assert move(waiting, job="j3") == [b"here"]
    assert move(waiting, job="j9") == [b"unknown"]
    waiting.call("job_cancel", "j1")
    assert move(waiting) == [b"here"]
    assert dump(waiting.client)["job:j2"] == before["job:j2"]


def test_a_job_that_waits_leaves_its_queue_and_takes_all_along(waiting: Shard) -> None:
    before = dump(waiting.client)
    word, record = move(waiting)
    assert word == b"moved"
    gone, new = changes(before, dump(waiting.client))
    job = new.pop("job:j1")
    fence = job.pop("fence")
    assert int(fence) > 10**15
    (queue,) = (key for key in gone if key.startswith("queue:"))
    assert job == {"state": "moved", "shard": "1", "hold": "h1",
                   "queued_ms": f"{before[queue]['j1'] % 10**13:.0f}",
                   "waits_until_ms": f"{before['pending']['j1']:.0f}"}  # fmt: skip
    assert new.keys() == {queue, "pending", "moved", P} - ({P} - new.keys())
    assert (gone[queue].keys(), gone["pending"].keys(), new[queue], new["pending"]) == ({"j1"}, {"j1"}, {}, {})
    held = msgpack.unpackb(record)
    assert json.loads(held.pop("demand")) == {"any_of": [["asr:zh"]]}
    assert held.pop("created_at_ms").isdigit()
    assert held == {"tenant": "acme", "digest": "d", "payload": '"j1"', "wait_ms": "60000", "fence": fence}


def test_the_last_job_of_a_queue_takes_the_queue_along(waiting: Shard) -> None:
    for job in ("j0", "j1", "j2"):
        assert move(waiting, job=job)[0] == b"moved"
    state = dump(waiting.client)
    assert not {"waiting", "pending", "fair"} & state.keys()
    assert not [key for key in state if key.startswith("queue:")]
    assert state["moved"].keys() == {"j0", "j1", "j2"}


def test_a_moved_job_gets_no_slot_here_and_does_not_expire(waiting: Shard) -> None:
    for job in ("j0", "j1", "j2"):
        move(waiting, job=job)
    before = dump(waiting.client)["job:j1"]
    waiting.call("job_finish", "j3", waiting.field("job:j3", "fence"), "succeeded")
    waiting.advance(61_000)
    waiting.call("reap")
    assert dump(waiting.client)["job:j1"] == before


def test_a_job_with_an_attempt_that_lingers_stays(shard: Shard) -> None:
    shard.register(slots=1)
    shard.run(timeout_ms=1_000)
    shard.advance(1_500)
    shard.call("reap")
    assert (shard.field("job:j1", "state"), shard.field("job:j1", "lingering")) == ("pending", "1")
    before = dump(shard.client)
    assert move(shard) == [b"here"]
    assert dump(shard.client) == before


def test_a_move_that_came_to_nothing_puts_the_job_back_in_its_place(waiting: Shard) -> None:
    before = dump(waiting.client)
    move(waiting)
    assert waiting.call("job_return", "j1", "h1") == [b"returned"]
    assert queue_of(waiting) == ["j0", "j1", "j2"]
    after = dump(waiting.client)
    fence = after["job:j1"].pop("fence")
    assert int(fence) > 10**15
    (queue,) = (key for key in before if key.startswith("queue:"))
    assert {name: after.get(name) for name in ("job:j1", queue, "waiting", "moved")} == {
        name: before.get(name) for name in ("job:j1", queue, "waiting", "moved")
    }
    assert abs(after["pending"]["j1"] - before["pending"]["j1"]) <= 1
    assert waiting.call("job_return", "j1", "h1") == [b"here"]
    waiting.call("job_finish", "j3", waiting.field("job:j3", "fence"), "succeeded")
    assert waiting.field("job:j0", "state") == "claimed"


def test_a_job_that_is_back_after_its_time_expires(waiting: Shard) -> None:
    move(waiting)
    waiting.advance(61_000)
    assert waiting.call("job_return", "j1", "h1") == [b"returned"]
    waiting.advance(10)
    waiting.call("reap")
    assert waiting.field("job:j1", "state") == "expired"


def test_a_job_that_only_its_client_had_is_forgotten(shard: Shard) -> None:
    note(shard)
    assert shard.call("job_return", "j1", "h1") == [b"returned"]
    assert dump(shard.client).keys() == {P}
    assert shard.call("job_return", "j1", "h1") == [b"unknown"]


@pytest.mark.parametrize("call", [("job_return",), ("job_settle", "1"), ("job_settle", "0")])
def test_a_word_about_another_move_changes_nothing(waiting: Shard, call: tuple[str, ...]) -> None:
    name, *more = call
    move(waiting)
    before = dump(waiting.client)
    assert waiting.call(name, "j1", "h2", *more) == [b"elsewhere", b"1", b"h1"]
    assert waiting.call(name, "j2", "h1", *more) == [b"here"]
    assert waiting.call(name, "j9", "h1", *more) == [b"unknown"]
    assert dump(waiting.client) == before


def test_a_settled_move_keeps_only_where_the_job_is(waiting: Shard) -> None:
    move(waiting)
    fence = waiting.field("job:j1", "fence")
    before = dump(waiting.client)
    assert waiting.call("job_settle", "j1", "h1", 1) == [b"settled"]
    _, new = changes(before, dump(waiting.client))
    assert dump(waiting.client)["job:j1"] == {"state": "moved", "shard": "1", "hold": "h1", "settled": "1",
                                              "tenant": "acme", "digest": "d", "fence": fence}  # fmt: skip
    assert new["events"][-1] == {"kind": "job_moved", "job": "j1", "tenant": "acme", "shard": "1"}
    assert is_due_in(waiting, LOOK_MS)
    assert waiting.client.pttl(f"{P}:job:j1") == -1
    before = dump(waiting.client)
    assert waiting.call("job_settle", "j1", "h1", 1) == [b"settled"]
    assert dump(waiting.client)["events"] == before["events"]
    assert waiting.call("job_settle", "j1", "h1", 0) == [b"settled"]
    assert "moved" not in dump(waiting.client)
    assert 0 < int(waiting.client.pttl(f"{P}:job:j1")) <= HOUR_MS


def test_moves_that_are_due_are_handed_out_and_postponed(waiting: Shard) -> None:
    for job in ("j0", "j1"):
        move(waiting, job=job)
    note(waiting, "2", "h9", "k1")
    waiting.call("job_settle", "j0", "h1", 1)
    assert due(waiting) == []
    waiting.advance(RETRY_MS + 100)
    assert due(waiting, 1) == [["j1", "1", "h1", False]]
    word, packed = waiting.call("moves_due", 32)
    ((job, *_, record),) = msgpack.unpackb(packed, raw=True)
    assert (word, job, record) == (b"due", b"k1", b"")
    assert due(waiting) == []
    assert is_due_in(waiting, RETRY_MS)
    waiting.advance(LOOK_MS)
    assert sorted(due(waiting)) == [["j0", "1", "h1", True], ["j1", "1", "h1", False], ["k1", "2", "h9", False]]


def test_a_move_that_is_due_has_the_record_that_the_move_gave(waiting: Shard) -> None:
    _, record = move(waiting)
    waiting.advance(RETRY_MS + 100)
    ((*_, again),) = msgpack.unpackb(waiting.call("moves_due", 1)[1], raw=True)
    assert msgpack.unpackb(again) == msgpack.unpackb(record)


def test_what_is_no_move_any_more_is_not_handed_out(shard: Shard) -> None:
    note(shard)
    note(shard, job="j2")
    shard.client.delete(f"{P}:job:j1")
    shard.advance(RETRY_MS + 100)
    assert due(shard) == [["j2", "1", "h1", False]]
    assert dump(shard.client)["moved"].keys() == {"j2"}


def test_one_page_of_moves_has_about_a_mebibyte(shard: Shard) -> None:
    shard.register(slots=1)
    shard.place("busy")
    for number in range(8):
        shard.claim(f"j{number}", "n1", wait_ms=60_000, payload="x" * 262_144)
        move(shard, job=f"j{number}")
    shard.advance(RETRY_MS + 100)
    assert [len(due(shard)), len(due(shard)), len(due(shard))] == [4, 4, 0]


@pytest.mark.parametrize("settled", ["", "settled"])
def test_old_fences_of_a_moved_job_bring_nothing_about(shard: Shard, settled: str) -> None:
    shard.register(slots=1)
    fence = shard.run()
    shard.client.zadd(f"{P}:nodes", {"n1": 1})
    shard.call("reap")
    assert move(shard)[0] == b"moved"
    if settled:
        shard.call("job_settle", "j1", "h1", 1)
    before = dump(shard.client)
    assert shard.call("job_start", "j1", fence) == [b"fenced"]
    for outcome in ("succeeded", "failed", "released"):
        assert shard.call("job_finish", "j1", fence, outcome) == [b"fenced"]
    assert shard.call("job_cancel", "j1") == [b"moved", b"1"]
    assert dump(shard.client) == before


def test_a_claim_of_an_id_that_moved_is_told_where(waiting: Shard) -> None:
    note(waiting, "1", "h1", "k1")
    move(waiting)
    before = dump(waiting.client)
    assert waiting.claim("k1", "n1") == [b"moved", b"1", b"h1"]
    assert waiting.claim("k1", "n1", digest="other") == [b"differs"]
    assert waiting.claim("k1", hold="h1") == [b"moved", b"1", b"h1"]
    # one that waited here waits until it is known to be there
    assert waiting.claim("j1", "n1")[:3] == [b"exists", b"pending", b""]
    assert dump(waiting.client) == before
    waiting.call("job_settle", "j1", "h1", 1)
    assert waiting.claim("j1", "n1") == [b"moved", b"1", b"h1"]


def handed_back(shard: Shard) -> str:
    """j1 was handed back once and lost its node once, and waits; answers its last fence."""
    shard.register("n1", slots=1)
    more: dict[str, Any] = {
        "max_attempts": 7,
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    first = shard.run("j1", payload='"p"', priority=9, session="s", affinity="sticky", **more)
    shard.call("job_finish", "j1", first, "released")
    assert shard.field("job:j1", "state") == "pending"
    shard.register("n2", slots=1)
    assert shard.field("job:j1", "state") == "claimed"
    for node in ("n1", "n2"):
        shard.client.zadd(f"{P}:nodes", {node: 1})
    shard.call("reap")
    assert shard.field("job:j1", "state") == "pending"
    return shard.field("job:j1", "fence")


def test_a_job_arrives_with_its_attempt_fence_age_and_releases(shard: Shard) -> None:
    fence = handed_back(shard)
    _, record = move(shard)
    before = dump(shard.client)["job:j1"]
    created = shard.client.hget(f"{P}:job:j1", "created_at_ms")
    # the other shard: here the same one, emptied
    shard.client.flushall()
    shard.register("n5", slots=1)
    shard.claim("h1", "n5", digest="-", hold="h1", hold_ms=2_000)
    answer = shard.call("job_claim", pack_moved(JobId("j1"), record, "h1"))[1]
    assert answer[:3] == [b"placed", b"j1", b"n5"]
    assert int(answer[5]) > int(fence)
    after = dump(shard.client)["job:j1"]
    kept = before.keys() - {"state", "shard", "hold", "queued_ms", "waits_until_ms", "fence", "attempt", "reason"}
    assert {name: after.get(name) for name in kept} == {name: before[name] for name in kept}
    assert (before["attempt"], after["attempt"], after["releases"]) == ("2", "3", "1")
    assert after["released_by"].startswith("n1:")
    assert shard.client.hget(f"{P}:job:j1", "created_at_ms") == created
    assert after["created_at_ms"] == NOW
    assert shard.client.get(f"{P}:session:acme:s") == b"n5"


def test_a_job_comes_back_to_a_shard_that_it_left(waiting: Shard) -> None:
    _, record = move(waiting)
    waiting.call("job_settle", "j1", "h1", 1)
    waiting.register("n2", slots=1)
    waiting.call("job_cancel", "j0")
    waiting.call("job_cancel", "j2")
    waiting.register("n4", slots=1)
    waiting.claim("h2", "n4", digest="-", hold="h2", hold_ms=2_000)
    answer = waiting.call("job_claim", pack_moved(JobId("j1"), record, "h2"))[1]
    assert answer[0] == b"placed"
    state = dump(waiting.client)
    assert not {"shard", "hold", "settled"} & state["job:j1"].keys()
    assert "moved" not in state
    assert waiting.call("job_settle", "j1", "h1", 1) == [b"here"]
    assert waiting.call("job_return", "j1", "h1") == [b"here"]


@pytest.mark.parametrize("arrived", ["", "arrived"])
def test_a_move_back_that_came_to_nothing_is_told_from_one_that_is_past(shard: Shard, arrived: str) -> None:
    """Or the shard that sends the job would believe an old word of its being elsewhere, and give it up."""
    note(shard)
    shard.call("job_settle", "j1", "h1", 1)
    shard.register("n1", slots=1)
    shard.claim("h2", "n1", digest="-", hold="h2", hold_ms=2_000)
    demand = '{"any_of":[["asr:zh"]]}'
    record = msgpack.packb({"tenant": "acme", "digest": "d", "demand": demand, "fence": "5", "attempt": "1"})
    back = pack_moved(JobId("j1"), record, "h2")
    if arrived:
        assert shard.call("job_claim", back)[1][0] == b"placed"
        shard.client.zadd(f"{P}:nodes", {"n1": 1})
        shard.call("reap")
        assert move(shard, "2", "h3")[0] == b"moved"
        assert shard.call("job_claim", back)[1][:2] == [b"exists", b"pending"]
        shard.call("job_settle", "j1", "h3", 1)
        assert shard.call("job_claim", back)[1] == [b"moved", b"2", b"h3"]
    else:
        shard.call("hold_drop", "h2")
        before = dump(shard.client)
        assert shard.call("job_claim", back)[1] == [b"lapsed"]
        assert dump(shard.client) == before
