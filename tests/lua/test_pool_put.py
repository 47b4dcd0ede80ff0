"""pool_put: one pool's configuration; its members follow by themselves, and isolation holds before they have."""

import json

import pytest

from tests.lua.keyspace import P, changes, dump, exact
from tests.lua.refusals import ODD_POOLS, refused
from tests.lua.shard import Shard

ALL = '"selector":{"all":true}'
REST = '"tenants":["*"],"fallback":[],"strategy":"spread","priority":0'


def test_a_put_writes_the_pool_and_a_new_version_and_nothing_else(shard: Shard) -> None:
    shard.register(labels="tier=gold")
    before = dump(shard.client)
    word, version = shard.call("pool_put", "gold", '{"selector": {"labels": {"tier": "gold"}}}')
    gone, new = changes(before, dump(shard.client))
    assert word == b"stored"
    assert int(version) > 0
    assert new.pop("events")[-1] == {"kind": "pool_stored", "pool": "gold"}
    assert new == {
        P: {"config_version": version.decode()},
        "pools": {"gold": '{"selector":{"labels":{"tier":"gold"}},' + REST + "}"},
    }
    assert gone == {P: {"config_version": "0"}, "events": before["events"]}


def test_the_first_put_makes_the_shard(shard: Shard) -> None:
    version = shard.put("gold")
    state = dump(shard.client)
    assert state.keys() == {P, "pools", "events"}
    assert state["pools"] == {"gold": "{" + ALL + "," + REST + "}"}
    assert (state[P]["config_version"], state[P]["version"]) == (version, "0")


def test_every_field_is_stored_in_one_form(shard: Shard) -> None:
    shard.put("silver")
    pool = {
        "d": 16,
        "priority": -1000,
        "strategy": "pack",
        "fallback": ["silver"],
        "tenants": ["acme", "*"],
        "selector": {"labels": {"z": "", "a": "x:/-_.1"}, "capabilities": ["nmt:zh>en", "gpu"]},
    }
    shard.call("pool_put", "gold", json.dumps(pool))
    held = shard.field("pools", "gold")
    assert held == (
        '{"selector":{"capabilities":["nmt:zh>en","gpu"],"labels":{"a":"x:/-_.1","z":""}},'
        '"tenants":["acme","*"],"fallback":["silver"],"strategy":"pack","priority":-1000,"d":16}'
    )
    shard.call("pool_put", "copy", held)
    assert shard.field("pools", "copy") == held, "what is stored can be put"


@pytest.mark.parametrize(
    "again",
    [
        '{"selector":{"all":true}}',
        '{"priority":-0,"selector":{"labels":{},"all":true},"fallback":[],"tenants":["*"]}',
    ],
)
def test_the_same_pool_again_keeps_the_version_and_changes_nothing(shard: Shard, again: str) -> None:
    version = shard.put("gold")
    before = exact(shard.client)
    assert shard.call("pool_put", "gold", again) == [b"stored", version.encode()]
    assert exact(shard.client) == before


def test_versions_rise_also_when_the_last_one_was_forgotten(shard: Shard) -> None:
    first = shard.put("gold")
    shard.client.hset(P, "config_version", 1)
    assert int(shard.put("silver")) > int(first)
    assert int(shard.put("silver", priority=1)) > int(first)


def test_a_pool_that_is_not_sound_names_the_field_and_changes_nothing(shard: Shard) -> None:
    shard.put("silver")
    for wrong, field in ODD_POOLS:
        refused(shard, "pool_put", "gold", wrong if isinstance(wrong, str) else json.dumps(wrong), field=field)


def test_an_unknown_fallback_is_named(shard: Shard) -> None:
    said = refused(shard, "pool_put", "gold", f'{{{ALL},"fallback":["nowhere"]}}', field="fallback")
    assert "nowhere" in said


def test_a_cycle_is_told_with_its_way(shard: Shard) -> None:
    shard.put("c")
    shard.put("b", fallback=["c"])
    shard.put("a", fallback=["b"])
    said = refused(shard, "pool_put", "c", f'{{{ALL},"fallback":["a"]}}', field="fallback")
    assert said.partition("makes a cycle: ")[2] in {"a > b > c > a", "b > c > a > b", "c > a > b > c"}
    assert "a > a" in refused(shard, "pool_put", "a", f'{{{ALL},"fallback":["a"]}}', field="fallback")


def test_two_ways_to_one_fallback_are_no_cycle(shard: Shard) -> None:
    shard.put("d")
    shard.put("b", fallback=["d"])
    shard.put("c", fallback=["d"])
    shard.put("a", fallback=["b", "c", "d"])


def test_the_pool_after_the_last_of_200_is_refused_but_each_may_change(shard: Shard) -> None:
    shard.apply({f"p{number}": {"selector": {"all": True}} for number in range(200)})
    refused(shard, "pool_put", "one-more", f"{{{ALL}}}", field="pool")
    shard.put("p7", priority=3)


def test_a_pool_that_would_be_too_long_when_stored_is_refused(shard: Shard) -> None:
    tenants = [f"{number:0>64}" for number in range(100)]
    labels: dict[str, str] = {}
    while len(json.dumps({"selector": {"labels": labels}, "tenants": tenants}, separators=(",", ":"))) < 8050:
        labels[f"{len(labels):0>10}"] = "v" * 100
    pool = json.dumps({"selector": {"labels": labels}, "tenants": tenants}, separators=(",", ":"))
    room = 8192 - len(pool)
    assert room > 0
    wide = json.dumps({"selector": {"labels": labels | {"k": "v" * (room - 8)}}, "tenants": tenants},
                      separators=(",", ":"))  # fmt: skip
    assert len(wide) <= 8192
    refused(shard, "pool_put", "gold", wide, field="json")


def test_members_follow_by_their_next_heartbeat(shard: Shard) -> None:
    shard.register("n1", labels="tier=gold")
    shard.register("n2")
    version = shard.put("gold", selector={"labels": {"tier": "gold"}})
    shard.client.hset(P, "reaped_ms", 10**15)  # a turn of reaping would bring in the other one, too
    shard.beat("n1")
    state = dump(shard.client)
    assert (state["pool:gold"], state["pool:default"]) == ({"n1"}, {"n2"})
    assert (state["node:n1"]["pools"], state["node:n1"]["config_version"]) == ("gold", version)
    shard.beat("n2")
    state = dump(shard.client)
    assert "pool:default" not in state, "the default pool ends with the first configuration"
    assert state["node:n2"]["pools"] == ""
    assert state["settled"] == {"n1": float(version), "n2": float(version)}


def test_members_follow_by_the_first_claim_that_meets_the_node(shard: Shard) -> None:
    shard.register("n1", labels="tier=gold")
    shard.register("n2")
    shard.put("gold", selector={"labels": {"tier": "gold"}})
    assert shard.claim("j1", "n2", "n1")[2:5:2] == [b"n1", b"gold"]
    state = dump(shard.client)
    assert (state["pool:gold"], state["node:n2"]["pools"]) == ({"n1"}, "")


def test_a_node_leaves_a_pool_before_a_claim_of_its_tenant_could_reach_it(shard: Shard) -> None:
    shard.put("gold", tenants=["acme"])
    shard.register("n1", labels="tier=gold")
    shard.put("gold", tenants=["acme"], selector={"labels": {"tier": "none"}})
    assert shard.client.sismember(f"{P}:pool:gold", "n1"), "no heartbeat has been"
    assert shard.claim("j1", "n1")[0] != b"placed"
    assert shard.claim("j2", "n1", known=False)[0] != b"placed"
    assert shard.claim("j3", "n1", pool="gold")[0] != b"placed"
    assert not shard.client.exists(f"{P}:node:n1:leases")


def test_a_tenant_is_shut_out_at_once(shard: Shard) -> None:
    shard.put("gold")
    shard.register()
    claim = shard.packed("j1", "n1", tenant="acme")
    shard.put("gold", tenants=["rich"])
    assert shard.call("job_claim", claim)[1][:2] in ([b"refused", b"impossible"], [b"again", b"look"])
    assert shard.claim("j2", "n1", pool="gold", tenant="acme") == [b"denied"]


def test_a_snapshot_with_the_new_pools_but_the_old_members_is_no_ground_for_a_refusal(shard: Shard) -> None:
    shard.register()
    shard.put("gold")
    answer = shard.claim("j1", offered=False)
    assert answer[2:5:2] == [b"n1", b"gold"]


def test_a_configured_pool_takes_the_place_of_the_automatic_one(shard: Shard) -> None:
    shard.apply({}, language_pools={})
    shard.register("n1", "semantic:de semantic:en")
    shard.put("de-en", selector={"labels": {"tier": "none"}})
    shard.beat()
    state = dump(shard.client)
    assert "languages" not in state["pools"]["de-en"]
    assert (state["node:n1"]["pools"], "pool:de-en" in state) == ("", False)


def test_an_automatic_pool_is_no_fallback(shard: Shard) -> None:
    shard.apply({}, language_pools={})
    shard.register("n1", "semantic:de semantic:en")
    said = refused(shard, "pool_put", "gold", f'{{{ALL},"fallback":["de-en"]}}', field="fallback")
    assert "de-en" in said
