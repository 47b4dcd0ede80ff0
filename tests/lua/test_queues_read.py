"""queues_read: what waits, for one reader at a time."""

import json
from typing import Any

import msgpack

from tests.lua.keyspace import P, changes, dump, exact
from tests.lua.shard import Shard


def read(shard: Shard, reader: str = "r1") -> list[Any]:
    word, packed = shard.call("queues_read", reader)
    assert word == b"queues"
    found: list[Any] = msgpack.unpackb(packed)
    return found


def test_nothing_waits_and_nobody_has_the_turn(shard: Shard) -> None:
    shard.register()
    before = exact(shard.client)
    assert read(shard) == []
    assert read(shard, "r2") == []
    assert exact(shard.client) == before


def test_each_queue_says_whose_it_is_what_it_wants_and_its_first_sixteen(shard: Shard) -> None:
    shard.register(slots=1, ttl_ms=600_000)
    shard.place("busy")
    for number in range(20):
        assert shard.claim(f"j{number}", "n1", wait_ms=60_000)[0] == b"waiting"
        shard.advance(10)
    shard.claim("first", "n1", wait_ms=60_000, priority=9)
    shard.claim("k1", "n1", wait_ms=60_000, tenant="other", exclude=frozenset({"n7", "n8"}), fallback=False)
    before = dump(shard.client)
    found = {tenant: rest for tenant, *rest in read(shard)}
    gone, new = changes(before, dump(shard.client))
    assert (gone.keys() - {P}, new.keys() - {P}, new["mover"]) == (set(), {"mover"}, "r1")
    wanted, count, jobs = found["acme"]
    assert json.loads(wanted) == {
        "any_of": [["asr:zh"]], "pool": "", "fallback": True, "languages": "", "exclude": "",
    }  # fmt: skip
    assert (count, jobs) == (21, ["first", *(f"j{number}" for number in range(15))])
    wanted, count, jobs = found["other"]
    assert (json.loads(wanted)["exclude"], json.loads(wanted)["fallback"]) == ("n7 n8", False)
    assert (count, jobs) == (1, ["k1"])


def test_the_turn_is_one_readers_for_a_moment(shard: Shard) -> None:
    shard.register(slots=1)
    shard.place("busy")
    shard.claim("j1", "n1", wait_ms=60_000)
    assert len(read(shard)) == 1
    assert 0 < int(shard.client.pttl(f"{P}:mover")) <= 300
    # an hour, for a slow machine
    shard.client.pexpire(f"{P}:mover", 3_600_000)
    before = dump(shard.client)
    assert shard.call("queues_read", "r2") == [b"busy"]
    assert dump(shard.client) == before
    assert len(read(shard)) == 1
    assert 0 < int(shard.client.pttl(f"{P}:mover")) <= 300
    shard.client.delete(f"{P}:mover")
    assert len(read(shard, "r2")) == 1
