import json

import pytest

from scheduler.domain.demand import TOKENS_MAX, demand_from_tokens
from scheduler.domain.ids import PoolName, Tenant, checked_id, checked_job_id, checked_token
from scheduler.domain.node import offered_by
from scheduler.domain.pool import Pool, pool_order
from scheduler.errors import BadInput

TENANT = Tenant("acme")


@pytest.mark.parametrize("good", ["a", "A.b_c-9", "x" * 64])
def test_ids_within_the_limits_are_taken(good: str) -> None:
    assert checked_id("node", good) == good
    assert checked_job_id(f"{good}:{good}") == f"{good}:{good}"


@pytest.mark.parametrize("bad", ["", "-a", "a b", "a\n", "x" * 65, "é", "a{b}", "a:b:c"])
def test_other_ids_are_refused_by_name_and_limit(bad: str) -> None:
    with pytest.raises(BadInput, match=r"node must be 1 to 64 characters"):
        checked_id("node", bad)
    with pytest.raises(BadInput, match="job must be"):
        checked_job_id(bad)


@pytest.mark.parametrize("bad", ["", ":a", ">a", "a b", "x" * 129, "a\n"])
def test_odd_tokens_are_refused(bad: str) -> None:
    with pytest.raises(BadInput, match="requires must be 1 to 128 characters"):
        checked_token("requires", bad)


def test_a_token_offers_its_service_too() -> None:
    assert offered_by(["asr:zh", "nmt:zh>en", "gpu"]) == {"asr:zh", "asr", "nmt:zh>en", "nmt", "gpu"}


def test_an_empty_demand_and_one_too_long_are_refused() -> None:
    with pytest.raises(BadInput, match="requires must name at least one"):
        demand_from_tokens([], TENANT)
    with pytest.raises(BadInput, match=f"requires must be at most {TOKENS_MAX}"):
        demand_from_tokens([f"t{i}" for i in range(TOKENS_MAX + 1)], TENANT)


def test_equal_demands_have_equal_text_whatever_the_order() -> None:
    one, other = demand_from_tokens(["b", "a"], TENANT), demand_from_tokens(["a", "b"], TENANT)
    assert one == other
    assert json.loads(one.text) == {"any_of": [["a", "b"]]}


POOLS = {
    PoolName("gold"): Pool(tenants=("acme",), fallback=("silver", "secret"), priority=1),
    PoolName("silver"): Pool(fallback=("gold", "bronze")),
    PoolName("bronze"): Pool(tenants=("other", "acme")),
    PoolName("secret"): Pool(tenants=("other",)),
}


@pytest.mark.parametrize(
    ("tenant", "named", "fallback", "order"),
    [
        ("acme", "gold", True, ["gold", "silver", "bronze"]),
        ("acme", "gold", False, ["gold"]),
        ("acme", None, False, ["gold", "bronze", "silver"]),
        ("nobody", None, True, ["silver"]),
        ("nobody", "gold", True, []),
        ("acme", "secret", True, []),
        ("acme", "unknown", True, []),
    ],
)
def test_pools_come_in_order_and_only_those_that_serve(
    tenant: str, named: str | None, order: list[str], *, fallback: bool
) -> None:
    pool = None if named is None else PoolName(named)
    assert list(pool_order(POOLS, Tenant(tenant), pool, fallback=fallback)) == order


SPOKEN = {
    PoolName("de-en"): Pool(languages=("de", "en"), priority=1, fallback=("rest",)),
    PoolName("fr"): Pool(languages=("fr",), tenants=("other",)),
    PoolName("rest"): Pool(priority=-1),
}


@pytest.mark.parametrize(
    ("languages", "named", "order"),
    [
        ((), None, ["rest"]),
        (("de",), None, ["de-en", "rest"]),
        (("en", "de"), None, ["de-en", "rest"]),
        (("de", "fr"), None, ["rest"]),
        (("fr",), None, ["rest"]),
        ((), "de-en", ["de-en", "rest"]),
        (("fr",), "de-en", ["de-en", "rest"]),
    ],
)
def test_an_automatic_pool_is_found_unnamed_only_by_languages_that_it_contains(
    languages: tuple[str, ...], named: str | None, order: list[str]
) -> None:
    pool = None if named is None else PoolName(named)
    assert list(pool_order(SPOKEN, TENANT, pool, fallback=True, languages=languages)) == order
