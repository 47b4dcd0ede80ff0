"""One language has one spelling, and what models tell apart stays apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.domain.languages import LANGUAGE_PATTERN, RENAMED, VARIANTS, language
from scheduler.errors import BadInput


@pytest.mark.parametrize(
    ("spelled", "code"),
    [
        ("zh", "zh"),
        ("ZH", "zh"),
        ("zh-CN", "zh"),
        ("zh_cn", "zh"),
        ("zh-Hans", "zh"),
        ("zh_Hans_CN", "zh"),
        ("cmn", "zh"),
        ("cmn-Hans-CN", "zh"),
        ("en-US", "en"),
        ("eng", "en"),
        ("eng-gb", "en"),
        ("de-at", "de"),
        ("pt-BR", "pt"),
        ("es_419", "es"),
        ("in", "id"),
        ("in-ID", "id"),
        ("iw", "he"),
        ("iw_IL", "he"),
        ("ji", "yi"),
        ("jw", "jv"),
        ("zh-yue", "yue"),
        ("yue-HK", "yue"),
        ("zh-TW", "zh-tw"),
        ("zh_Hant", "zh-hant"),
        ("cmn-Hant", "zh-hant"),
        ("zh-hk", "zh-hk"),
        ("yue", "yue"),
        ("ar-EG", "ar-eg"),
        ("sr-Latn", "sr-latn"),
        ("sr-Cyrl", "sr-cyrl"),
        ("xx-private-1", "xx-private-1"),
    ],
)
def test_a_language_has_one_spelling(spelled: str, code: str) -> None:
    assert language("src", spelled) == code


@given(st.from_regex(LANGUAGE_PATTERN).filter(lambda text: len(text) <= 35))
def test_a_spelling_that_was_made_stays_as_it_is(text: str) -> None:
    once = language("src", text)
    assert language("src", once) == once


def test_no_alias_leads_to_another_alias() -> None:
    for alias, code in RENAMED.items():
        assert language("src", alias) == code == language("src", code)
    for code, variants in VARIANTS.items():
        assert {language("src", f"{code}-{variant}") for variant in variants} == {code}


@pytest.mark.parametrize(
    "bad", ["", "z", "chinese", "zh-", "-zh", "zh--cn", "zh cn", "zh\n", "zh-abcdefghi", "中文", "\u212ao", "zh>en"]
)
def test_what_is_no_code_is_refused_with_the_field_and_the_limit(bad: str) -> None:
    with pytest.raises(BadInput, match=r"services\[0\] must be a language code of at most 35 characters"):
        language("services[0]", bad)


def test_a_code_may_have_35_characters_and_no_more() -> None:
    longest = "zh-" + "-".join(["abcdefg"] * 4) + "x"
    assert len(longest) == 35
    assert language("src", longest) == longest
    with pytest.raises(BadInput, match="at most 35 characters"):
        language("src", longest[:-1] + "-x")


@pytest.mark.parametrize("auto", ["auto", "AUTO"])
def test_auto_is_no_language(auto: str) -> None:
    with pytest.raises(BadInput, match="tgt must be a language: auto is for the src of a request only"):
        language("tgt", auto)
