"""explain: class, pools, nodes and near miss of a demand, a page at a time; changes no key. The rules are judged in
tests/property/test_oracle.py."""

import json
from typing import Any

import pytest
import redis

from tests.lua.keyspace import P, dump
from tests.lua.shard import Shard


def ask(shard: Shard, cursor: str = "0", **demand: Any) -> list[Any]:
    """The page, its texts decoded."""

    def decoded(value: Any) -> Any:
        return (
            [decoded(item) for item in value]
            if isinstance(value, list)
            else getattr(value, "decode", lambda: value)()
        )

    # not by serialised bytes: a large set may turn its table while it is only looked at
    before = dump(shard.client, mask=False)
    page = decoded(shard.client.execute_command("FCALL_RO", "fleet1_explain", 1, P, json.dumps(demand), cursor))
    assert dump(shard.client, mask=False) == before
    assert page[0] == "verdict"
    return list(page[1:])


def two_pools(shard: Shard) -> None:
    shard.call(
        "pool_put", "gold", '{"selector":{"labels":{"tier":"gold"}},"tenants":["acme"],"fallback":[],"priority":5}'
    )
    shard.call("pool_put", "rest", '{"selector":{"labels":{"tier":"low"}}}')


def test_an_empty_shard_offers_nothing(shard: Shard) -> None:
    assert ask(shard, requires=["gpu"]) == ["impossible", "0", [], [["default", "impossible", 0]], [], []]


def test_a_verdict_for_each_pool_and_node_with_every_condition_and_the_near_miss(shard: Shard) -> None:
    two_pools(shard)
    shard.register("a", "gpu asr:zh", slots=1, labels="tier=gold")
    shard.register("b", "gpu", labels="tier=low", cpu=99, mem=90)
    shard.register("c", "asr:zh", labels="tier=low")
    shard.call("node_mark", "b", "cordon")
    shard.place("j", "a", requires="gpu", pool="gold")
    assert ask(shard, requires=["gpu", "asr"], tenant="acme") == [
        "overloaded",
        "0",
        ["full", 1, "missing_capability", 2],
        [["gold", "overloaded", 0, "full", 1], ["rest", "impossible", 0, "missing_capability", 2]],
        [
            ["a", "gold", "full", "full"],
            ["b", "rest", "missing_capability", "missing_capability asr", "cordoned", "overloaded cpu mem"],
            ["c", "rest", "missing_capability", "missing_capability gpu"],
        ],
        ["a", "full"],
    ]


def test_what_is_missing_is_told_for_the_nearest_alternative(shard: Shard) -> None:
    shard.register("a", "gpu")
    page = ask(shard, any_of=[["x", "y"], ["gpu", "z"]])
    assert page[5] == ["a", "missing_capability z"]


def test_a_tenant_sees_nodes_of_its_pools_only_unless_all_are_asked_for(shard: Shard) -> None:
    two_pools(shard)
    shard.register("a", "gpu", labels="tier=gold")
    shard.register("b", "gpu", labels="tier=none")
    assert ask(shard, requires=["gpu"])[2:5] == [[], [["rest", "impossible", 0]], []]
    assert ask(shard, requires=["gpu"], all=True)[2:5:2] == [
        ["tenant_denied", 1, "not_in_pool", 1],
        [["a", "", "tenant_denied", "tenant_denied"], ["b", "", "not_in_pool", "not_in_pool"]],
    ]


@pytest.mark.parametrize("pool", ["gold", "nowhere"])
def test_a_pool_that_does_not_serve_the_tenant_is_denied_whether_it_exists_or_not(shard: Shard, pool: str) -> None:
    two_pools(shard)
    assert ask(shard, requires=["gpu"], pool=pool) == ["denied", "0", [], [[pool, "denied", 0]], [], []]


def test_pages_of_a_large_fleet_tell_of_every_node_once(shard: Shard) -> None:
    names = {f"n{number:03}" for number in range(300)}
    for name in names:
        shard.register(name, "gpu")
    seen: list[str] = []
    cursor, pages = "0", 0
    while pages == 0 or cursor != "0":
        _, cursor, *_, nodes, _ = ask(shard, cursor, requires=["gpu"])
        seen += [node[0] for node in nodes]
        pages += 1
    assert sorted(seen) == sorted(names)
    assert 2 <= pages <= 6


@pytest.mark.parametrize(
    ("demand", "field"),
    [
        ("", "demand"), ("[", "demand"), ("7", "demand"), ("{}", "demand"), ('{"requires":[]}', "demand"),
        ('{"requires":["gpu"],"any_of":[["gpu"]]}', "demand"), ('{"requires":"gpu"}', "demand"),
        ('{"requires":["a b"]}', "demand"), ('{"requires":["gpu"],"tenant":7}', "tenant"),
        ('{"requires":["gpu"],"tenant":"a b"}', "tenant"), ('{"requires":["gpu"],"pool":""}', "pool"),
        ('{"requires":["gpu"],"fallback":"no"}', "fallback"), ('{"requires":["gpu"],"all":1}', "all"),
        ('{"requires":["gpu"],"exclude":"n1"}', "exclude"), ('{"requires":["gpu"],"exclude":["a b"]}', "exclude"),
        ('{"requires":["gpu"],"languages":[7]}', "languages"), ('{"requires":["gpu"],"service":1}', "service"),
        (" " * 300_001, "demand"),
    ],
)  # fmt: skip
def test_misuse_names_the_field(shard: Shard, demand: str, field: str) -> None:
    with pytest.raises(redis.ResponseError, match=rf"^BADARG {field} \S"):
        shard.call("explain", demand)


@pytest.mark.parametrize("cursor", ["", "-1", "x", "9" * 21, "9" * 20, str(2**64)])
def test_a_cursor_is_one_that_a_page_answered(shard: Shard, cursor: str) -> None:
    with pytest.raises(redis.ResponseError, match=r"^BADARG cursor "):
        shard.call("explain", '{"requires":["gpu"]}', cursor)


def test_a_page_does_not_cost_more_where_nodes_offer_much(shard: Shard) -> None:
    """What a node offers is asked of the index: one command for each token of the demand."""
    for number in range(20):
        shard.register(f"n{number}", " ".join(["gpu", *(f"asr:l{i}" for i in range(200))]))
    demand = json.dumps({"any_of": [["gpu", "asr"], ["gpu", "tts:en"]], "exclude": ["n1"]})
    shard.client.config_resetstat()
    _, class_, *_ = shard.client.execute_command("FCALL_RO", "fleet1_explain", 1, P, demand)
    stats: dict[str, Any] = shard.client.info("commandstats")
    assert (class_, stats["cmdstat_smismember"]["calls"]) == (b"placeable", 3)
