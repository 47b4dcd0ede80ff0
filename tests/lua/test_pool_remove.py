"""pool_remove: a pool goes, its nodes stay and leave it by themselves."""

from tests.lua.keyspace import P, changes, dump, exact
from tests.lua.refusals import refused
from tests.lua.shard import Shard


def test_a_removal_takes_the_pool_and_gives_a_new_version_and_nothing_else(shard: Shard) -> None:
    shard.put("gold")
    shard.put("silver")
    shard.register()
    before = dump(shard.client)
    assert shard.call("pool_remove", "gold") == [b"removed"]
    gone, new = changes(before, dump(shard.client))
    version = new[P].pop("config_version")
    assert int(version) > int(before[P]["config_version"])
    assert new.pop("events")[-1] == {"kind": "pool_removed", "pool": "gold"}
    assert new == {P: {}, "pools": {}}
    assert gone["pools"] == {"gold": before["pools"]["gold"]}


def test_its_nodes_leave_it_by_their_next_heartbeat(shard: Shard) -> None:
    shard.put("gold")
    shard.put("silver")
    shard.register()
    shard.call("pool_remove", "gold")
    shard.beat()
    state = dump(shard.client)
    assert (state["node:n1"]["pools"], state["pool:silver"], "pool:gold" in state) == ("silver", {"n1"}, False)


def test_no_claim_uses_it_from_then_on(shard: Shard) -> None:
    shard.put("gold", priority=5)
    shard.put("silver")
    shard.register()
    packed = shard.packed("j1", "n1")
    shard.call("pool_remove", "gold")
    assert shard.call("job_claim", packed)[1][4] == b"silver"
    assert shard.claim("j2", "n1", pool="gold") == [b"denied"]


def test_with_the_last_pool_no_node_is_in_any(shard: Shard) -> None:
    shard.register()
    shard.put("gold")
    shard.call("pool_remove", "gold")
    shard.beat()
    state = dump(shard.client)
    assert "pools" not in state
    assert (state["node:n1"]["pools"], "pool:default" in state) == ("", False)
    assert shard.claim("j1", "n1") == [b"refused", b"impossible", [-1]]


def test_an_unknown_pool_changes_nothing(shard: Shard) -> None:
    assert shard.call("pool_remove", "gold") == [b"unknown"]
    assert dump(shard.client) == {}
    shard.register()
    before = exact(shard.client)
    assert shard.call("pool_remove", "default") == [b"unknown"], "it is not configured"
    assert exact(shard.client) == before


def test_a_fallback_of_another_stays_until_that_one_changes(shard: Shard) -> None:
    shard.put("silver")
    shard.put("gold", fallback=["silver"])
    assert " gold:" in refused(shard, "pool_remove", "silver", field="pool")
    shard.put("gold")
    assert shard.call("pool_remove", "silver") == [b"removed"]


def test_a_fallback_of_the_language_pools_stays_also_while_there_is_none_of_these(shard: Shard) -> None:
    shard.apply({"rest": {"selector": {"all": True}}}, language_pools={"fallback": ["rest"]})
    assert "language pools" in refused(shard, "pool_remove", "rest", field="pool")


def test_an_automatic_pool_goes_with_its_last_node_only(shard: Shard) -> None:
    shard.apply({}, language_pools={})
    shard.register("n1", "semantic:de")
    assert "automatic" in refused(shard, "pool_remove", "de", field="pool")


def test_a_removed_pool_of_its_name_makes_room_for_the_automatic_one(shard: Shard) -> None:
    shard.apply({"de": {"selector": {"all": True}}}, language_pools={})
    shard.register("n1", "semantic:de")
    assert shard.call("pool_remove", "de") == [b"removed"]
    shard.beat()
    assert '"languages":["de"]' in shard.field("pools", "de")
