"""pools_apply: the whole configuration in one step, and what follows from its limits and its language pools."""

import json
from typing import Any

import pytest
import redis

from tests.lua.keyspace import P, changes, dump, exact
from tests.lua.refusals import ODD_POOLS, refused
from tests.lua.shard import Shard

EVERY = {"selector": {"all": True}}
DEFAULTS = '"tenants":["*"],"fallback":[],"strategy":"spread","priority":0'


def test_an_apply_replaces_the_whole_configuration_and_nothing_else(shard: Shard) -> None:
    shard.apply({"old": EVERY, "gold": EVERY}, limits={"cpu_max": 50, "gpu_max": 0}, language_pools={"max": 3})
    shard.register()
    before = dump(shard.client)
    config = {
        "pools": {
            "gold": EVERY | {"priority": 2, "fallback": ["new"]},
            "new": {"selector": {"capabilities": ["gpu"]}},
        },
        "limits": {"mem_max": 85.1, "gpu_max": 100},
    }
    answer = shard.call("pools_apply", before[P]["config_version"], json.dumps(config))
    version = shard.meta("config_version")
    assert answer == [b"applied", version.encode()]
    gone, new = changes(before, dump(shard.client))
    assert new.pop("events")[-1] == {"kind": "pools_applied", "pools": "2"}
    assert new == {
        P: {"config_version": version, "mem_max": "85.1", "gpu_max": "100"},
        "pools": {
            "gold": '{"selector":{"all":true},"tenants":["*"],"fallback":["new"],"strategy":"spread","priority":2}',
            "new": '{"selector":{"capabilities":["gpu"]},' + DEFAULTS + "}",
        },
    }
    assert gone[P].keys() == {"config_version", "cpu_max", "gpu_max", "language_pools"}
    assert gone["pools"].keys() == {"old", "gold"}


def test_the_first_apply_makes_the_shard(shard: Shard) -> None:
    assert shard.call("pools_apply", "0", "{}")[0] == b"applied"
    assert dump(shard.client).keys() == {P, "events"}


def test_a_configuration_that_changed_meanwhile_is_left_as_it_is(shard: Shard) -> None:
    seen = shard.put("gold")
    shard.register()
    now = shard.put("silver")
    before = exact(shard.client)
    assert shard.call("pools_apply", seen, '{"pools":{}}') == [b"changed", now.encode()]
    assert shard.call("pools_apply", "0", '{"pools":{}}') == [b"changed", now.encode()]
    assert exact(shard.client) == before


def test_a_pool_that_is_not_sound_is_named_with_its_field(shard: Shard) -> None:
    seen = shard.put("before")
    for wrong, field in ODD_POOLS:
        if not isinstance(wrong, str):
            config = {"pools": {"silver": EVERY, "gold": wrong}}
            at = "pools.gold" if field == "json" else f"pools.gold.{field}"
            refused(shard, "pools_apply", seen, json.dumps(config), field=at)


ODD_LIMITS: list[Any] = [None, True, "85", [], -0.1, 100.1, 1e300]
ODD_MAX: list[Any] = [None, 0, 51, 1.5, "3", True, []]
ODD_CONFIGS: list[tuple[Any, str]] = [
    *((text, "json") for text in ("", "{", "7", "null", "[7]", "{}x", '{"":1}')),
    ({"colour": 1}, "colour"), ({"selector": {"all": True}}, "selector"),
    *(({"pools": value}, "pools") for value in (None, 7, True, False, "gold", [EVERY])),
    *(({"pools": {name: EVERY}}, "pools") for name in ("", "a b", "-a", "é", "a\n", "x" * 65, "a:b")),
    *(({"pools": {"gold": value}}, "pools.gold") for value in (None, 7, True, False, "x", [7])),
    ({"pools": {f"p{number}": EVERY for number in range(201)}}, "pools"),
    ({"pools": {"a": EVERY | {"fallback": ["a"]}}}, "pools.a.fallback"),
    ({"pools": {"a": EVERY | {"fallback": ["b"]}}}, "pools.a.fallback"),
    *(({"limits": value}, "limits") for value in (None, 7, True, False, "x", [50])),
    ({"limits": {"disk_max": 5}}, "limits.disk_max"), ({"limits": {"cpu": 5}}, "limits.cpu"),
    *(({"limits": {"gpu_max": value}}, "limits.gpu_max") for value in ODD_LIMITS),
    ('{"limits":{"cpu_max":NaN}}', "limits.cpu_max"), ('{"limits":{"cpu_max":-Infinity}}', "limits.cpu_max"),
    *(({"language_pools": value}, "language_pools") for value in (None, 7, True, False, "x", [7])),
    *(({"language_pools": {"max": value}}, "language_pools.max") for value in ODD_MAX),
    ({"language_pools": {"selector": {}}}, "language_pools.selector"),
    ({"language_pools": {"tenants": []}}, "language_pools.tenants"),
    ({"language_pools": {"strategy": "best"}}, "language_pools.strategy"),
    ({"language_pools": {"priority": 1001}}, "language_pools.priority"),
    ({"language_pools": {"d": 0}}, "language_pools.d"),
    ({"language_pools": {"fallback": "rest"}}, "language_pools.fallback"),
    ({"pools": {"gold": EVERY}, "language_pools": {"fallback": ["nowhere"]}}, "language_pools.fallback"),
    (" " * 1_048_577, "json"),
]  # fmt: skip


def test_a_configuration_that_is_not_sound_names_the_field_and_changes_nothing(shard: Shard) -> None:
    seen = shard.apply({"before": EVERY}, limits={"cpu_max": 50}, language_pools={})
    for wrong, field in ODD_CONFIGS:
        refused(shard, "pools_apply", seen, wrong if isinstance(wrong, str) else json.dumps(wrong), field=field)


def test_a_cycle_in_a_configuration_is_refused_at_one_of_its_pools(shard: Shard) -> None:
    config = {"pools": {"a": EVERY | {"fallback": ["b"]}, "b": EVERY | {"fallback": ["a"]}}}
    with pytest.raises(
        redis.ResponseError, match=r"^BADARG pools\.[ab]\.fallback makes a cycle: (a > b > a|b > a > b)$"
    ):
        shard.call("pools_apply", "0", json.dumps(config))
    assert dump(shard.client) == {}


def test_two_hundred_pools_of_one_chain_are_the_most(shard: Shard) -> None:
    chain = {
        f"p{number}": EVERY | ({"fallback": [f"p{number + 1}"]} if number < 199 else {}) for number in range(200)
    }
    shard.apply(chain)
    assert shard.client.hlen(f"{P}:pools") == 200


@pytest.mark.parametrize("way", ["heartbeat", "claim"])
def test_limits_hold_from_the_next_heartbeat_or_claim_for_nodes_without_their_own(shard: Shard, way: str) -> None:
    shard.register("n1", cpu=60)
    shard.register("n2", cpu=60, cpu_max=70)
    shard.apply({"all": EVERY}, limits={"cpu_max": 50})
    if way == "heartbeat":
        shard.beat("n1")
        shard.beat("n2")
        assert dump(shard.client)["free"] == {"n2"}
    assert shard.claim("j1", "n1", "n2")[2] == b"n2"
    assert dump(shard.client)["free"] == {"n2"}


@pytest.mark.parametrize("way", ["heartbeat", "claim"])
def test_a_limit_that_is_left_out_again_frees_the_node(shard: Shard, way: str) -> None:
    shard.apply({"all": EVERY}, limits={"cpu_max": 50})
    shard.register("n1", cpu=60)
    assert "free" not in dump(shard.client)
    shard.apply({"all": EVERY})
    if way == "heartbeat":
        shard.beat("n1")
        assert dump(shard.client)["free"] == {"n1"}
    assert shard.claim("j1", "n1")[0] == b"placed"


def test_no_tenant_of_the_old_configuration_reaches_a_node_of_the_new(shard: Shard) -> None:
    shard.apply({"gold": EVERY | {"tenants": ["rich"]}})
    shard.register()
    packed = shard.packed("j1", "n1", tenant="rich")
    shard.apply({"gold": EVERY | {"tenants": ["other"]}})
    assert shard.call("job_claim", packed)[1][0] != b"placed"
    assert not shard.client.exists(f"{P}:leases")
