"""docs/languages.md says what the code does."""

import re
import tomllib
from pathlib import Path

import msgspec

from scheduler.domain.ids import Tenant
from scheduler.domain.languages import RENAMED, VARIANTS, language
from scheduler.domain.services import OFFER_MAX, SERVICES_MAX, Service, tokens_offered
from scheduler.http.wire import JobBody, demand_in

PAGE = (Path(__file__).parents[2] / "docs" / "languages.md").read_text("utf-8")
ALIASES = PAGE.partition("| language | also spelled |\n")[2].partition("\n\n")[0]


def block(kind: str) -> str:
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_table_of_spellings_is_that_of_the_code() -> None:
    told = {
        (alias, row[0])
        for line in ALIASES.splitlines()
        if (row := re.findall(r"`([\w-]+)`", line))
        for alias in row[1:]
    }
    known = set(RENAMED.items()) | {(f"{code}-{variant}", code) for code in VARIANTS for variant in VARIANTS[code]}
    assert told == known | {("zh-yue", "yue")}
    assert all(language("src", alias) == code for alias, code in told)


def test_its_node_offers_tokens_and_its_request_is_a_demand_that_the_node_meets() -> None:
    services = msgspec.convert(tomllib.loads(block("toml"))["services"], tuple[Service, ...])
    tokens = {*tokens_offered(services), "gpu"}
    assert {"asr:zh", "nmt:zh>en", "nmt.auto:en", "tts:en"} <= tokens
    assert tokens.isdisjoint({"nmt:zh>ja", "nmt:de>en"})
    demand = demand_in(msgspec.json.decode(block("json"), type=JobBody), Tenant("default"))
    assert any(needed <= tokens for needed in demand.any_of)


def test_its_limits_are_those_of_the_code() -> None:
    assert f"{SERVICES_MAX} services and offers 1 to {OFFER_MAX:,} tokens" in PAGE
