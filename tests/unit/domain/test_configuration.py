"""What tells two configurations apart."""

from scheduler.domain.configuration import Change, Configuration, LanguagePools, Limits, difference
from scheduler.domain.ids import PoolName
from scheduler.domain.pool import DEFAULT_POOLS, Pool, Selector

ALL = Selector(all=True)
GOLD, REST, DE = PoolName("gold"), PoolName("rest"), PoolName("de")


def test_equal_configurations_do_not_differ() -> None:
    one = Configuration({GOLD: Pool(ALL, d=3)}, Limits(cpu_max=50), LanguagePools(max=3))
    assert difference(one, one) == ()
    assert difference(Configuration(), Configuration()) == ()


def test_what_is_added_or_removed_is_told_by_what_has_no_default() -> None:
    old = Configuration({REST: Pool(ALL, priority=-1)})
    new = Configuration({GOLD: Pool(Selector(labels={"tier": "gold"}), tenants=("acme",))})
    added = {"selector": {"labels": {"tier": "gold"}}, "tenants": ("acme",)}
    assert difference(old, new) == (
        Change("added", "pools.gold", None, added),
        Change("removed", "pools.rest", {"selector": {"all": True}, "priority": -1}, None),
    )


def test_what_changes_is_told_field_by_field_with_old_and_new() -> None:
    old = Configuration({GOLD: Pool(ALL, tenants=("a",), d=2), REST: Pool(ALL)})
    new = Configuration({GOLD: Pool(ALL, tenants=("a", "b"), strategy="pack"), REST: Pool(ALL)})
    assert difference(old, new) == (
        Change("changed", "pools.gold.tenants", ("a",), ("a", "b")),
        Change("changed", "pools.gold.strategy", "spread", "pack"),
        Change("changed", "pools.gold.d", 2, None),
    )


def test_limits_and_the_template_of_language_pools_are_part_of_it() -> None:
    on = Configuration(language_pools=LanguagePools(tenants=("acme",)))
    assert difference(Configuration(), on) == (Change("added", "language_pools", None, {"tenants": ("acme",)}),)
    assert difference(on, Configuration()) == (Change("removed", "language_pools", {"tenants": ("acme",)}, None),)
    old = Configuration(limits=Limits(cpu_max=50), language_pools=LanguagePools(max=3))
    new = Configuration(limits=Limits(mem_max=95.5), language_pools=LanguagePools(max=4))
    assert difference(old, new) == (
        Change("changed", "limits.cpu_max", 50.0, 85.0),
        Change("changed", "limits.mem_max", 85.0, 95.5),
        Change("changed", "language_pools.max", 3, 4),
    )


def test_weights_are_told_by_tenant() -> None:
    old, new = Configuration(weights={"a": 3, "b": 2}), Configuration(weights={"b": 4, "c": 1})
    assert difference(old, new) == (Change("changed", "weights.a", 3, 1), Change("changed", "weights.b", 2, 4))


def test_automatic_pools_are_no_part_of_it_but_a_configured_one_takes_their_place() -> None:
    automatic = Configuration({DE: Pool(languages=("de",))})
    assert difference(automatic, Configuration()) == ()
    taken = difference(automatic, Configuration({DE: Pool(ALL)}))
    assert taken == (Change("added", "pools.de", None, {"selector": {"all": True}}),)


def test_the_built_in_pool_ends_with_the_first_configuration() -> None:
    (change,) = difference(Configuration(dict(DEFAULT_POOLS)), Configuration())
    assert (change.kind, change.at) == ("removed", "pools.default")
