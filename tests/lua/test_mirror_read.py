"""mirror_read: what changed since a version, in pages; reading changes nothing."""

from typing import Any

import msgpack
import pytest

from scheduler.store.codec import Truths
from tests.lua.keyspace import P, dump, exact
from tests.lua.shard import Shard


def page(shard: Shard, cursor: int = 0, complete: int = 0, config: str = "", *more: int) -> list[Any]:
    before = exact(shard.client)
    word, packed, *_ = shard.call("mirror_read", cursor, complete, config, *more)
    assert word == b"mirror"
    assert exact(shard.client) == before
    return list(msgpack.unpackb(packed))


def test_an_unused_shard_is_an_empty_page_without_an_epoch(shard: Shard) -> None:
    epoch, floor, version, structure, config, now_ms, nodes, pools, _ = page(shard)
    assert (epoch, floor, version, structure, config, nodes, pools) == ("", 0, 0, 0, 0, [], [])
    assert now_ms > 1_600_000_000_000


def test_a_page_holds_each_node_by_its_true_state(shard: Shard) -> None:
    shard.register("n1", "asr:zh", slots=3, labels="zone=a", cpu=90)
    shard.register("n2", "gpu")
    shard.place("j1", "n2", requires="gpu")
    gone = shard.register("n3")
    shard.call("node_mark", "n2", "cordon")
    shard.call("node_remove", "n3", gone)
    versions = dump(shard.client)["changed"]  # fmt: skip
    epoch, _, version, structure, _, _, nodes, _, _ = page(shard)
    assert (epoch, version, structure) == (
        shard.meta("epoch"), int(shard.meta("version")), int(shard.meta("structure_version")),
    )  # fmt: skip
    places = {node: shard.field(f"node:{node}", "structure") for node in ("n1", "n2")}
    assert nodes == [
        ["n1", versions["n1"], "ready", 3, 0, "cpu", False, [places["n1"], "asr:zh", "default"]],
        ["n2", versions["n2"], "cordoned", 2, 1, "", False, [places["n2"], "gpu", "default"]],
        ["n3", versions["n3"], ""],
    ]


def test_only_what_changed_since_the_cursor_comes_and_structure_only_where_it_is_new(shard: Shard) -> None:
    shard.register("n1")
    shard.register("n2")
    version = page(shard)[2]
    assert page(shard, version, version)[6] == []
    shard.call("node_mark", "n1", "cordon")
    (node,) = page(shard, version, version)[6]
    assert node[:3] == ["n1", int(shard.meta("version")), "cordoned"]
    assert len(node) == 7
    (node,) = page(shard, version, 0)[6]
    assert len(node) == 8, "a caller between the pages of a fill has not seen it yet"


def test_pages_meet_every_node_once(shard: Shard) -> None:
    for number in range(7):
        shard.register(f"n{number}")
    seen: list[str] = []
    cursor = 0
    while nodes := page(shard, cursor, 0, "", 3)[6]:
        assert len(nodes) <= 3
        seen += [node[0] for node in nodes]
        cursor = nodes[-1][1]
    assert seen == [f"n{number}" for number in range(7)]


@pytest.mark.parametrize(("held", "told"), [("1", False), ("0", ["gold", "{}"]), ("", ["gold", "{}"])])
def test_pools_come_only_where_the_caller_has_others(shard: Shard, held: str, told: object) -> None:
    shard.register()
    shard.client.hset(f"{P}:pools", "gold", "{}")
    shard.client.hset(P, "config_version", 1)
    assert page(shard, 0, 0, held)[7] == told


def test_a_page_is_100_nodes_unless_another_number_up_to_200_is_asked_for(shard: Shard) -> None:
    for number in range(201):
        shard.register(f"n{number}")
    assert len(page(shard)[6]) == 100
    packed = shard.call("mirror_read", 0, 0, "", 200)[1]
    assert len(msgpack.unpackb(packed)[6]) == 200


def test_a_page_names_the_history_that_its_versions_belong_to(shard: Shard) -> None:
    told: Any = shard.client.info("replication")
    assert page(shard)[8] == told["master_replid"]


def truths(shard: Shard) -> dict[str, int]:
    before = exact(shard.client)
    told = shard.call("mirror_read", 0, 0, "", 100, 1)
    assert exact(shard.client) == before
    return dict(msgpack.unpackb(told[7]))


def test_the_shard_in_numbers_comes_only_where_it_is_asked_for(shard: Shard) -> None:
    shard.register()
    for more in ([], [100], [100, 0]):
        assert len(shard.call("mirror_read", 0, 0, "", *more)) == 7
    assert len(shard.call("mirror_read", 0, 0, "", 100, 1)) == 8


def test_a_shard_that_nothing_happened_in_has_zeros(shard: Shard) -> None:
    revision = int(shard.call("library_read")[2])
    told = truths(shard)
    assert told.pop("revision") == revision
    assert set(told.values()) == {0}
    assert set(told) | {"revision"} == set(Truths.__struct_fields__)


def test_the_numbers_are_those_of_the_keys(shard: Shard) -> None:
    shard.register("n1", slots=1, ttl_ms=600_000)
    shard.register("n2", "gpu", slots=1, ttl_ms=3_000)
    shard.run("j1", "n1")
    for job, tenant in (("j2", "acme"), ("j3", "acme"), ("j4", "bolt")):
        assert shard.claim(job, "n1", digest=job, tenant=tenant, wait_ms=600_000)[0] == b"waiting"
    shard.advance(3_000)
    shard.call("reap")
    told = truths(shard)
    assert (told["leases"], told["waiting_jobs"], told["waiting_demands"]) == (1, 3, 2)
    assert (told["reaped_nodes"], told["reaped_leases"], told["reaped_jobs"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("turns", "oldest"),
    [
        ([(5, "acme"), (5, "acme")], 3_000),
        # the older one is behind the younger in its queue, for its priority is lower
        ([(0, "acme"), (9, "acme"), (4, "acme")], 3_000),
        ([(9, "acme"), (0, "bolt")], 3_000),
        ([(4, "acme")], 1_000),
    ],
)
def test_the_oldest_that_waits_is_found_behind_any_priority(
    shard: Shard, turns: list[tuple[int, str]], oldest: int
) -> None:
    shard.register("n1", slots=1, ttl_ms=600_000)
    shard.run("j0", "n1", timeout_ms=600_000)
    for number, (priority, tenant) in enumerate(turns, 1):
        fields = {"digest": f"d{number}", "tenant": tenant, "priority": priority, "wait_ms": 600_000}
        assert shard.claim(f"j{number}", "n1", **fields)[0] == b"waiting"
        if number == 1:
            shard.advance(2_000)
    shard.advance(1_000 if len(turns) > 1 else -1_000)
    assert oldest <= truths(shard)["oldest_ms"] < oldest + 1_000


def test_nodes_that_are_not_reaped_because_too_many_lapsed_are_told_until_the_pause_is_over(shard: Shard) -> None:
    for number in range(10):
        shard.register(f"n{number}")
    assert truths(shard)["paused"] == 0
    shard.advance(3_000)
    assert shard.call("reap") == [b"reaped", 0, 0, 0]
    assert truths(shard)["paused"] == 1
    # the mark stays until nodes are back; what pauses is over
    shard.advance(30_000)
    assert truths(shard)["paused"] == 0
    assert shard.meta("paused_ms") != "0"


def test_the_look_for_the_oldest_is_bounded_and_turns(shard: Shard) -> None:
    shard.register()
    # as many demands as may wait, one of them old, each with jobs of ten priorities
    now_ms = int(shard.meta("clock"))
    shard.client.zadd(f"{P}:pending", {"j": 10**16})
    for number in range(128):
        name = f"{number:016x}:acme"
        shard.client.hset(f"{P}:waiting", name, "{}")
        since = now_ms - (60_000 if number == 77 else 1_000)
        shard.client.zadd(f"{P}:queue:{name}", {f"j{turn}": turn * 10**13 + since for turn in range(10)})
    shard.client.config_resetstat()
    told = [truths(shard)["oldest_ms"]]
    stats: Any = shard.client.info("commandstats")
    assert 384 <= stats["cmdstat_zrangebyscore"]["calls"] <= 384 + 11
    while told[-1] < 60_000:
        assert len(told) < 200
        told.append(truths(shard)["oldest_ms"])
    assert all(1_000 <= found < 61_000 + 60_000 for found in told)
