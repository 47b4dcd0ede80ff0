"""A fleet of several shards: who belongs where, who may change what, and a shard that is frozen."""

import json
from typing import Any

import msgpack
import pytest
import redis

from scheduler.domain.shards import home_tag
from scheduler.store.layout import chosen_tags
from scheduler.store.library import source_folder
from tests.lua.keyspace import P, dump, exact
from tests.lua.shard import Shard
from tests.lua.test_bad_arguments import VALID

TAGS = ("0", "1", "2")
EVERYWHERE = " ".join(TAGS)
P1 = "fleet:{1}"
ALL = '{"selector":{"all":true}}'


@pytest.fixture
def divided(shard: Shard) -> Shard:
    for tag in TAGS:
        assert shard.call("shard_init", EVERYWHERE, key=f"fleet:{{{tag}}}") == [b"initialised"]
    return shard


def node_in(tag: str) -> str:
    return next(f"n{i}" for i in range(100) if home_tag(TAGS, f"n{i}") == tag)


@pytest.mark.parametrize("count", [1, 2, 7, 128])
def test_the_shard_of_a_node_is_the_one_that_python_has(shard: Shard, count: int) -> None:
    tags = chosen_tags(count)
    shard.call("shard_init", " ".join(tags))
    ids = [f"node-{i}" for i in range(1_000)]
    found = {id_: shard.call("shard_find", id_)[1].decode() for id_ in ids}
    assert found == {id_: f"fleet:{{{home_tag(tags, id_)}}}" for id_ in ids}


def test_a_fleet_of_one_shard_needs_no_division(shard: Shard) -> None:
    before = exact(shard.client)
    assert shard.call("shard_find", "n1") == [b"shard", P.encode()]
    assert exact(shard.client) == before


def test_a_shard_is_told_which_there_are(shard: Shard) -> None:
    assert shard.call("shard_init", EVERYWHERE) == [b"initialised"]
    state = dump(shard.client)
    assert (state[P]["tags"], state[P]["shards"]) == (EVERYWHERE, "3")
    assert state.keys() == {P, "events"}
    assert state["events"] == [{"kind": "shard_initialised", "shards": "3"}]
    before = exact(shard.client)
    assert shard.call("shard_init", EVERYWHERE) == [b"initialised"]
    assert exact(shard.client) == before
    assert shard.call("shard_init", "0 1") == [b"initialised"]
    assert shard.meta("tags") == "0 1"


def test_the_count_does_not_change_while_a_node_or_a_job_is_there(shard: Shard) -> None:
    incarnation = shard.register()
    assert shard.call("shard_init", EVERYWHERE) == [b"busy", b"nodes"]
    fence = shard.place()
    shard.call("node_remove", "n1", incarnation)
    assert shard.call("shard_init", EVERYWHERE) == [b"busy", b"jobs"]
    shard.call("job_finish", "j1", fence, "succeeded")
    shard.call("reap")
    assert shard.call("shard_init", EVERYWHERE) == [b"initialised"]
    shard.call("job_move", "j2", "1", "h1", "acme", "d")
    assert shard.call("shard_init", "0 1") == [b"busy", b"jobs"]
    shard.call("job_return", "j2", "h1")
    assert shard.call("shard_init", "0 1") == [b"initialised"]


def test_only_a_shard_that_knows_of_none_is_restored(shard: Shard) -> None:
    shard.register()
    assert shard.call("shard_init", EVERYWHERE, 1) == [b"initialised"]
    before = exact(shard.client)
    assert shard.call("shard_init", EVERYWHERE, 1) == [b"initialised"]
    assert shard.call("shard_init", "0 1", 1) == [b"other", EVERYWHERE.encode()]
    assert exact(shard.client) == before


def test_a_shard_that_nobody_has_told_lets_no_node_in(shard: Shard) -> None:
    said = ("node_register", "n1", "endpoint", "http://n", "slots", 1, "capabilities", "gpu")
    assert shard.call(*said, key="fleet:{1}") == [b"moving"]
    assert shard.client.keys("fleet:{1}*") == []


def test_a_node_registers_only_where_it_belongs(divided: Shard) -> None:
    here, there = node_in("0"), node_in("1")
    before = exact(divided.client)
    with pytest.raises(redis.ResponseError, match=r"^BADARG node belongs to the shard \{1\}, see shard_find$"):
        divided.register(there)
    assert exact(divided.client) == before
    assert divided.register(here)


def test_pools_are_written_to_the_first_shard(divided: Shard) -> None:
    before = exact(divided.client)
    for name, *args in (("pool_put", "gold", ALL), ("pool_remove", "gold"), ("pools_apply", "0", "{}")):
        with pytest.raises(redis.ResponseError, match=r"^BADARG key must be that of the first shard, \{0\}"):
            divided.call(name, *args, key=P1)
    assert exact(divided.client) == before
    assert divided.call("pool_put", "gold", ALL)[0] == b"stored"
    assert divided.call("pool_remove", "gold") == [b"removed"]


def test_a_shard_that_was_told_of_no_others_has_pools_of_its_own(shard: Shard) -> None:
    assert shard.call("pool_put", "gold", ALL, key=P1)[0] == b"stored"


def mirror(shard: Shard, key: str) -> tuple[dict[str, Any], int]:
    """Its pools, and of which version they are a copy."""
    word, packed, _, source, *_ = shard.call("mirror_read", 0, 0, "", key=key)
    assert word == b"mirror"
    pools = msgpack.unpackb(packed)[7]
    return {name: json.loads(text) for name, text in zip(pools[::2], pools[1::2], strict=True)}, source


def test_a_copy_is_taken_once_and_never_replaced_by_an_older_one(divided: Shard) -> None:
    config = json.dumps({"pools": {"gold": {"selector": {"all": True}}}})
    word, version = divided.call("pools_apply", 0, config, 7, key=P1)
    assert word == b"applied"
    assert mirror(divided, P1)[0].keys() == {"gold"}
    assert mirror(divided, P1)[1] == 7
    before = dump(divided.client)
    for source in (7, 6):
        assert divided.call("pools_apply", 0, '{"pools":{}}', source, key=P1) == [b"changed", version]
    assert dump(divided.client) == before
    assert divided.call("pools_apply", 0, '{"pools":{}}', 8, key=P1)[0] == b"applied"
    assert mirror(divided, P1) == ({}, 8)
    assert mirror(divided, P)[1] == 0


GOES_ON = {"library_read", "shard_freeze", "shard_find"}


@pytest.fixture
def busy(shard: Shard) -> Shard:
    """A node, a running job, one that waits, a held slot and a move."""
    shard.register(slots=2)
    shard.run()
    shard.claim("h1", "n1", digest="-", hold="h1", hold_ms=2_000)
    shard.claim("j2", "n1", wait_ms=60_000)
    shard.call("job_move", "j3", "1", "h2", "acme", "d")
    return shard


def test_a_frozen_shard_answers_moving_and_changes_nothing(busy: Shard) -> None:
    arguments: dict[str, list[Any]] = {**VALID, "shard_init": ["0 1"]}
    arguments["node_heartbeat"] = ["n1", busy.field("node:n1", "incarnation"), "cpu", "7"]
    arguments["pools_apply"], arguments["tenants_apply"] = ["0", '{"pools":{}}'], ["0", "{}"]
    claims = [busy.packed("j9", "n1"), busy.packed("j9", hold="h1"), busy.packed("h9", hold="h9", hold_ms=5)]
    listed = {path.stem for path in source_folder().glob("*.lua")} - {"prelude"}
    assert listed == arguments.keys() | {"job_claim"}
    assert busy.call("shard_freeze", "freeze") == [b"frozen"]
    busy.advance(120_000)
    before = exact(busy.client)
    for name in sorted(listed - GOES_ON - {"job_claim"}):
        assert busy.call(name, *arguments[name]) == [b"moving"], name
    for claim in claims:
        answer = busy.client.execute_command("FCALL", "fleet1_job_claim", 1, P, claim)
        assert answer == [b"moving"]
    assert busy.call("shard_find", "n1") == [b"shard", P.encode()]
    assert busy.call("library_read")[0] == b"library"
    assert busy.call("shard_freeze", "freeze") == [b"frozen"]
    assert exact(busy.client) == before


def test_the_clock_stands_still_while_a_shard_is_frozen(busy: Shard) -> None:
    before = dump(busy.client)
    busy.call("shard_freeze", "freeze")
    clock = int(busy.meta("clock"))
    # it was frozen an hour ago
    busy.client.hincrby(P, "clock_seen_at_ms", -3_600_000)
    assert busy.call("shard_freeze", "thaw") == [b"thawed"]
    assert busy.call("reap") == [b"reaped", 0, 0, 0]
    assert clock <= int(busy.meta("clock")) <= clock + 1_200
    after = dump(busy.client)
    assert [entry["kind"] for entry in after["events"][-2:]] == ["shard_frozen", "shard_thawed"]
    for key in before.keys() - {P, "events"}:
        assert after[key] == before[key], key
    assert busy.claim("j2", "n1")[:2] == [b"exists", b"pending"]
    assert busy.call("job_finish", "j1", busy.field("job:j1", "fence"), "succeeded") == [b"finished"]


def test_a_thaw_of_what_is_not_frozen_changes_nothing(busy: Shard) -> None:
    before = exact(busy.client)
    assert busy.call("shard_freeze", "thaw") == [b"thawed"]
    assert exact(busy.client) == before
