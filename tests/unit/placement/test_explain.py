from dataclasses import replace

from scheduler.domain.demand import demand_from_tokens
from scheduler.domain.ids import NodeId, PoolName, Tenant
from scheduler.domain.pool import Pool, Selector
from scheduler.placement.explain import explain
from tests.unit.placement.fleets import TENANT, demand, fleet, node

NOBODY: frozenset[NodeId] = frozenset()


def test_every_condition_of_every_node_is_told_and_the_near_miss_is_the_nearest() -> None:
    snapshot = fleet(
        node("a", "cpu", state="cordoned", used=4),
        node("b", used=4, over="cpu mem"),
        node("c", state="draining"),
        node("x", used=4),
    )
    found = explain(snapshot, demand("gpu"), frozenset({NodeId("x")}))
    assert {verdict.node: verdict.conditions for verdict in found.nodes} == {
        "a": ("missing_capability gpu", "cordoned", "full"),
        "b": ("overloaded cpu mem", "full"),
        "c": ("draining",),
        "x": ("excluded", "full"),
    }
    assert found.class_ == "overloaded"
    assert found.near_miss is not None
    assert found.near_miss.node == "c"


def test_each_missing_capability_counts_and_the_nearest_alternative_is_told() -> None:
    snapshot = fleet(node("a", "gpu"), node("b", "gpu x y"))
    found = explain(snapshot, demand("gpu", "x", "y", "z"), NOBODY)
    assert [verdict.conditions for verdict in found.nodes] == [
        ("missing_capability x y z",),
        ("missing_capability z",),
    ]
    assert found.near_miss is not None
    assert found.near_miss.node == "b"


def test_a_placeable_demand_has_no_near_miss_where_every_node_could_take_it() -> None:
    found = explain(fleet(node("a")), demand("gpu"), NOBODY)
    assert (found.class_, found.near_miss, found.reasons) == ("placeable", None, {})


def test_nodes_of_other_tenants_are_not_told_of_and_each_pool_has_a_verdict() -> None:
    pools = {
        PoolName("gold"): Pool(Selector(all=True), tenants=("rich",)),
        PoolName("rest"): Pool(Selector(all=True), priority=1),
        PoolName("low"): Pool(Selector(all=True)),
    }
    snapshot = replace(
        fleet(node("a", pools="gold"), node("b", pools="rest", used=4), node("c", pools="low")), pools=pools
    )
    found = explain(snapshot, demand("gpu"), NOBODY)
    assert [verdict.node for verdict in found.nodes] == ["b", "c"]
    assert [(pool.pool, pool.class_, pool.eligible) for pool in found.pools] == [
        ("rest", "overloaded", 0),
        ("low", "placeable", 1),
    ]
    only = explain(snapshot, demand("gpu", pool="rest"), NOBODY)
    assert {verdict.node: verdict.conditions for verdict in only.nodes} == {"b": ("full",), "c": ("not_in_pool",)}
    assert explain(snapshot, demand("gpu", pool="gold"), NOBODY).class_ == "denied"


def test_a_tenant_without_pools_is_told_that_it_is_impossible() -> None:
    snapshot = replace(fleet(node("a", pools="gold")), pools={PoolName("gold"): Pool(tenants=("rich",))})
    assert explain(snapshot, demand_from_tokens(["gpu"], TENANT), NOBODY).class_ == "impossible"
    assert explain(snapshot, demand_from_tokens(["gpu"], Tenant("rich")), NOBODY).class_ == "placeable"
