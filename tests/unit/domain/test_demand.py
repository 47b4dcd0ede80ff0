"""Tokens and services become one demand."""

import json
import re
from typing import Any

import pytest

from scheduler.domain.demand import TOKENS_MAX, demand_from, demand_from_tokens
from scheduler.domain.ids import PoolName, Tenant
from scheduler.errors import BadInput

TENANT = Tenant("acme")


def test_services_become_alternatives_with_the_languages_beside_them() -> None:
    demand = demand_from(
        TENANT, services=["nmt", "asr"], src="zh-CN", tgt="en-US", pool=PoolName("gold"), fallback=False
    )
    assert json.loads(demand.text) == {"any_of": [["asr:zh", "nmt:zh>en"], ["asr:zh", "nmt.any:en", "nmt.any:zh"]]}
    assert (demand.languages, demand.pool, demand.fallback) == (("en", "zh"), "gold", False)


def test_tokens_join_each_alternative() -> None:
    demand = demand_from(TENANT, requires=["gpu"], services=["nmt"], src="auto", tgt="en")
    assert list(demand.any_of) == [{"gpu", "nmt.auto:en"}]
    both = demand_from(TENANT, requires=["gpu"], services=["nmt"], src="zh", tgt="en")
    assert list(both.any_of) == [{"gpu", "nmt:zh>en"}, {"gpu", "nmt.any:zh", "nmt.any:en"}]


def test_tokens_alone_make_the_demand_that_they_always_made() -> None:
    assert demand_from(TENANT, requires=["b", "a", "a"]) == demand_from_tokens(["a", "b"], TENANT)
    named = demand_from(TENANT, requires=["a"], src="de", tgt="en")
    assert list(named.any_of) == [{"a"}]
    assert named.languages == ("de", "en")


def test_the_same_meaning_is_the_same_demand() -> None:
    one = demand_from(TENANT, services=["asr", "tts"], src="zh_Hans", tgt="EN-us")
    assert one == demand_from(TENANT, services=["tts", "asr", "tts"], src="zh", tgt="en")
    assert one != demand_from(TENANT, services=["tts", "asr"], src="zh", tgt="de")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "requires must name at least one capability where services name none"),
        ({"src": "zh", "tgt": "en"}, "requires must name at least one capability where services name none"),
        ({"requires": ["a b"], "services": ["asr"], "src": "zh"}, "requires must be 1 to 128 characters"),
        ({"requires": ["a"], "src": "?"}, "src must be a language code"),
        ({"services": ["nmt"], "src": "zh"}, "tgt must be given where nmt is asked"),
        (
            {"requires": [f"t{i}" for i in range(TOKENS_MAX)], "services": ["asr"], "src": "zh"},
            "requires must be at most 64 capabilities, with those of services",
        ),
    ],
)
def test_a_bad_demand_names_its_field(given: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=re.escape(said)):
        demand_from(TENANT, **given)
