"""Automatic language pools: nodes with the same set of semantic languages share one, while it has members."""

import json

import pytest

from tests.lua.keyspace import P, changes, dump
from tests.lua.shard import Shard

DE_EN = "semantic:en semantic:de gpu"


def on(shard: Shard, **template: object) -> str:
    return shard.apply({}, language_pools=template)


def test_nodes_of_one_set_share_a_pool_named_by_the_set_in_order(shard: Shard) -> None:
    on(shard, tenants=["acme"], priority=7, strategy="pack", d=2)
    before = shard.meta("config_version")
    shard.register("n1", DE_EN)
    shard.register("n2", "semantic:de semantic:en")
    shard.register("n3", "semantic:de")
    shard.register("n4", "asr:de")
    state = dump(shard.client)
    choice = '"tenants":["acme"],"fallback":[],"strategy":"pack","priority":7,"d":2'
    assert state["pools"] == {
        "de-en": f'{{"selector":{{}},{choice},"languages":["de","en"]}}',
        "de": f'{{"selector":{{}},{choice},"languages":["de"]}}',
    }
    assert (state["pool:de-en"], state["pool:de"]) == ({"n1", "n2"}, {"n3"})
    assert (state["node:n1"]["pools"], state["node:n4"]["pools"]) == ("de-en", "")
    assert int(shard.meta("config_version")) > int(before)


def test_a_heartbeat_makes_the_pool_where_the_languages_or_the_configuration_are_new(shard: Shard) -> None:
    shard.register("n1", DE_EN)
    on(shard)
    shard.beat()
    assert shard.field("node:n1", "pools") == "de-en"
    shard.beat(capabilities="semantic:fr")
    state = dump(shard.client)
    assert (state["pools"].keys(), state["node:n1"]["pools"], state["pool:fr"]) == ({"fr"}, "fr", {"n1"})
    assert "pool:de-en" not in state


def test_the_last_member_takes_the_pool_along(shard: Shard) -> None:
    on(shard)
    first, second = shard.register("n1", DE_EN), shard.register("n2", DE_EN)
    shard.call("node_remove", "n1", first)
    assert shard.client.hexists(f"{P}:pools", "de-en")
    version = shard.meta("config_version")
    shard.call("node_remove", "n2", second)
    state = dump(shard.client)
    assert ("pools" in state, "pool:de-en" in state) == (False, False)
    assert int(shard.meta("config_version")) > int(version)


def test_a_lost_node_keeps_its_pool_until_it_is_removed(shard: Shard) -> None:
    on(shard)
    shard.register("n1", DE_EN)
    shard.advance(3_000)
    shard.call("reap")
    assert shard.client.hexists(f"{P}:pools", "de-en")
    shard.advance(600_000)
    shard.call("reap")
    assert not shard.client.exists(f"{P}:pools")


def test_there_are_at_most_max_of_them(shard: Shard) -> None:
    on(shard, max=2)
    for language in ("de", "en", "fr"):
        shard.register(language, f"semantic:{language}")
    state = dump(shard.client)
    assert state["pools"].keys() == {"de", "en"}
    assert state["node:fr"]["pools"] == ""
    shard.call("node_remove", "de", shard.field("node:de", "incarnation"))
    shard.beat("fr")
    assert dump(shard.client)["pools"].keys() == {"en", "fr"}


def test_a_configured_pool_of_that_name_wins(shard: Shard) -> None:
    shard.apply({"de-en": {"selector": {"capabilities": ["gpu"]}}}, language_pools={})
    shard.register("n1", DE_EN)
    shard.register("n2", "semantic:de semantic:en")
    state = dump(shard.client)
    assert "languages" not in state["pools"]["de-en"]
    assert state["pool:de-en"] == {"n1"}


def test_a_name_of_64_characters_makes_a_pool_and_a_longer_one_none(shard: Shard) -> None:
    on(shard)
    shard.register("n1", f"semantic:{'a' * 30} semantic:{'b' * 33}")
    shard.register("n2", f"semantic:{'a' * 30} semantic:{'b' * 34}")
    state = dump(shard.client)
    assert state["pools"].keys() == {f"{'a' * 30}-{'b' * 33}"}
    assert state["node:n2"]["pools"] == ""


def test_without_the_setting_there_are_none(shard: Shard) -> None:
    shard.apply({"rest": {"selector": {"all": True}}})
    shard.register("n1", DE_EN)
    assert dump(shard.client)["pools"].keys() == {"rest"}


@pytest.mark.parametrize("languages", ["de", "en", "de en", "en de"])
def test_a_request_whose_languages_it_contains_finds_it(shard: Shard, languages: str) -> None:
    on(shard)
    shard.register("n1", DE_EN)
    assert shard.claim("j1", "n1", requires="gpu", languages=languages)[2:5:2] == [b"n1", b"de-en"]


@pytest.mark.parametrize("languages", ["", "fr", "de fr"])
def test_a_request_without_languages_or_with_another_does_not(shard: Shard, languages: str) -> None:
    on(shard)
    shard.register("n1", DE_EN)
    assert shard.claim("j1", "n1", requires="gpu", languages=languages)[:2] == [b"refused", b"impossible"]


def test_a_request_that_names_it_finds_it_whatever_its_languages(shard: Shard) -> None:
    on(shard)
    shard.register("n1", DE_EN)
    assert shard.claim("j1", "n1", requires="gpu", pool="de-en")[4] == b"de-en"
    assert shard.claim("j2", "n1", requires="gpu", pool="de-en", languages="fr")[4] == b"de-en"


def test_it_serves_the_tenants_of_the_template_only_and_has_its_fallbacks(shard: Shard) -> None:
    rest = {"selector": {"labels": {"tier": "rest"}}, "tenants": ["acme"], "priority": -1}
    shard.apply({"rest": rest}, language_pools={"tenants": ["acme"], "fallback": ["rest"]})
    shard.register("n1", DE_EN, slots=1)
    shard.register("n2", "gpu", labels="tier=rest")
    assert shard.claim("j0", "n1", requires="gpu", languages="de", tenant="other")[0] == b"refused"
    assert shard.claim("j1", "n1", requires="gpu", pool="de-en")[4] == b"de-en"
    assert shard.claim("j2", "n1", requires="gpu", pool="de-en")[2:5:2] == [b"n2", b"rest"]


def test_a_claim_that_meets_the_nodes_first_makes_the_pool_and_never_refuses_for_its_lack(shard: Shard) -> None:
    shard.register("n1", DE_EN)
    on(shard)
    answer = shard.claim("j1", "n1", requires="gpu", languages="de", offered=False)
    assert answer[0] in {b"placed", b"again"}
    assert shard.claim("j2", "n1", requires="gpu", languages="de")[2:5:2] == [b"n1", b"de-en"]


def test_an_apply_keeps_the_pools_that_have_members_and_stores_them_by_the_new_template(shard: Shard) -> None:
    on(shard)
    for number, tokens in enumerate((DE_EN, "semantic:fr gpu", "semantic:it gpu")):
        shard.register(f"n{number}", tokens)
    before = dump(shard.client)
    shard.apply({"it": {"selector": {"capabilities": ["none"]}}}, language_pools={"max": 1, "priority": 3})
    _, new = changes(before, dump(shard.client))
    assert new["pools"].keys() == {"de-en", "it"}
    assert '"priority":3,"languages":["de","en"]' in new["pools"]["de-en"]
    assert "languages" not in new["pools"]["it"]
    assert shard.claim("j1", "n0", requires="gpu", languages="de")[4] == b"de-en"
    shard.apply({})
    assert not shard.client.exists(f"{P}:pools")
    shard.beat("n0")
    assert shard.field("node:n0", "pools") == ""


def test_the_template_is_stored_with_its_defaults(shard: Shard) -> None:
    on(shard)
    held = json.loads(shard.meta("language_pools"))
    assert held == {"max": 50, "tenants": ["*"], "fallback": [], "strategy": "spread", "priority": 0}
