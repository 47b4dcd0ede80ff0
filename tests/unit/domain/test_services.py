"""A node serves a request where, and only where, the rules of its services say so."""

import re
from collections.abc import Sequence
from itertools import permutations
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.domain.required import required
from scheduler.domain.services import Asr, Nmt, Semantic, Service, Tts, offered, tokens_offered
from scheduler.domain.translation import Rule
from scheduler.errors import BadInput


def asr(text: str, *, ready: bool = True) -> Asr:
    return Asr(tuple(text.split()), ready)


def tts(text: str, *, ready: bool = True) -> Tts:
    return Tts(tuple(text.split()), ready)


def semantic(text: str, *, ready: bool = True) -> Semantic:
    return Semantic(tuple(text.split()), ready)


def nmt(rule: Rule, text: str, blocked: str = "", *, ready: bool = True) -> Nmt:
    words, stops = tuple(text.split()), tuple(blocked.split())
    return (
        Nmt(rule, pairs=words, blocked=stops, ready=ready) if rule == "pairs" else Nmt(rule, words, (), stops, ready)
    )


def serves(node: Sequence[Service], services: str, src: str | None = None, tgt: str | None = None) -> bool:
    """By sets alone: each token of some alternative is offered, or is the part of one before its first colon."""
    tokens = set(tokens_offered(node))
    index = tokens | {token.split(":")[0] for token in tokens}
    return any(set(tokens) <= index for tokens in required(services.split(), src, tgt).any_of)


ANY = nmt("any_to_any", "zh en ja")
STOPPED = nmt("any_to_any", "zh en ja", "zh>ja")
BIG, SMALL = nmt("any_to_any", "zh en ja"), nmt("any_to_any", "de fr")
CHAIN = (asr("zh en"), nmt("any_to_any", "zh en de"), tts("en de"), semantic("zh"))

CASES: list[tuple[Sequence[Service], str, str | None, str | None, bool]] = [
    # recognition, synthesis, understanding
    ([asr("zh en")], "asr", "zh", None, True),
    ([asr("zh en")], "asr", "en", None, True),
    ([asr("zh en")], "asr", "de", None, False),
    ([asr("zh")], "asr", "zh", "de", True),
    ([asr("zh")], "asr", "auto", None, True),
    ([asr("zh")], "asr", "AUTO", None, True),
    ([tts("en")], "tts", None, "en", True),
    ([tts("en")], "tts", None, "zh", False),
    ([tts("en")], "tts", "zh", "en", True),
    ([tts("en")], "tts", "auto", "en", True),
    ([tts("en")], "asr", "en", None, False),
    ([tts("en")], "asr", "auto", None, False),
    ([asr("en")], "tts", None, "en", False),
    ([semantic("zh")], "semantic", "zh", None, True),
    ([semantic("zh")], "semantic", "en", None, False),
    ([semantic("zh")], "semantic", "auto", None, True),
    ([asr("zh")], "semantic", "zh", None, False),
    ([asr("zh"), asr("en")], "asr", "en", None, True),
    ([asr("zh"), tts("en")], "asr tts", "zh", "en", True),
    ([asr("zh"), tts("en")], "tts asr asr", "zh", "en", True),
    ([asr("zh"), tts("en")], "asr tts", "en", "zh", False),
    ([asr("zh"), tts("zh")], "asr tts", "zh", "zh", True),
    ([asr("zh"), semantic("en")], "asr semantic", "zh", None, False),
    # a service that is not ready
    ([asr("zh", ready=False)], "asr", "zh", None, False),
    ([asr("zh", ready=False), asr("en")], "asr", "zh", None, False),
    ([asr("zh", ready=False), asr("zh en")], "asr", "zh", None, True),
    ([asr("zh", ready=False)], "asr", "auto", None, False),
    ([nmt("any_to_any", "zh en", ready=False)], "nmt", "zh", "en", False),
    ([nmt("pairs", "zh>en", ready=False), nmt("pairs", "en>zh")], "nmt", "zh", "en", False),
    # aliases, on either side
    ([asr("zh-CN")], "asr", "zh", None, True),
    ([asr("zh")], "asr", "zh_Hans", None, True),
    ([asr("cmn")], "asr", "ZH-cn", None, True),
    ([tts("en-us")], "tts", None, "en-GB", True),
    ([tts("in iw")], "tts", None, "id", True),
    ([tts("he")], "tts", None, "iw", True),
    ([asr("zh")], "asr", "zh-tw", None, False),
    ([asr("zh-TW")], "asr", "zh_tw", None, True),
    ([asr("zh-hant")], "asr", "zh", None, False),
    ([asr("zh")], "asr", "yue", None, False),
    ([asr("yue")], "asr", "zh-yue", None, True),
    ([nmt("pairs", "zh-CN>en-US")], "nmt", "cmn", "eng", True),
    # any to any
    ([ANY], "nmt", "zh", "en", True),
    ([ANY], "nmt", "ja", "zh", True),
    ([ANY], "nmt", "zh", "de", False),
    ([ANY], "nmt", "de", "zh", False),
    ([nmt("any_to_any", "zh")], "nmt", "zh", "en", False),
    ([nmt("any_to_any", "zh zh-cn")], "nmt", "zh", "en", False),
    # a blocked pair, in one direction and of one model
    ([STOPPED], "nmt", "zh", "ja", False),
    ([STOPPED], "nmt", "ja", "zh", True),
    ([STOPPED], "nmt", "zh", "en", True),
    ([nmt("any_to_any", "zh en ja", "zh-CN>ja-JP")], "nmt", "zh", "ja", False),
    ([STOPPED, nmt("pairs", "zh>ja")], "nmt", "zh", "ja", True),
    ([nmt("pairs", "zh>ja"), STOPPED], "nmt", "zh", "ja", True),
    ([STOPPED, nmt("any_to_any", "zh ja")], "nmt", "zh", "ja", True),
    ([STOPPED, nmt("any_to_any", "zh ja ko", "zh>ja")], "nmt", "zh", "ja", False),
    ([nmt("any_to_any", "zh en", "zh>fr zh>zh")], "nmt", "zh", "en", True),
    ([nmt("any_to_en", "zh de", "zh>en")], "nmt", "zh", "en", False),
    ([nmt("any_to_en", "zh de", "zh>en")], "nmt", "de", "en", True),
    ([nmt("pairs", "zh>en", "zh>en")], "nmt", "zh", "en", False),
    # to and from English, pairs
    ([nmt("any_to_en", "zh de")], "nmt", "zh", "en", True),
    ([nmt("any_to_en", "zh de")], "nmt", "en", "zh", False),
    ([nmt("any_to_en", "zh de")], "nmt", "zh", "de", False),
    ([nmt("en_to_any", "zh de en")], "nmt", "en", "de", True),
    ([nmt("en_to_any", "zh de en")], "nmt", "de", "en", False),
    ([nmt("any_to_en", "zh"), nmt("en_to_any", "de")], "nmt", "zh", "de", False),
    ([nmt("any_to_en", "zh"), nmt("en_to_any", "de")], "nmt", "zh", "en", True),
    ([nmt("pairs", "zh>en")], "nmt", "zh", "en", True),
    ([nmt("pairs", "zh>en")], "nmt", "en", "zh", False),
    ([nmt("pairs", "zh>en en>de")], "nmt", "zh", "de", False),
    # several sets do not mix
    ([BIG, SMALL], "nmt", "de", "fr", True),
    ([BIG, SMALL], "nmt", "zh", "ja", True),
    ([BIG, SMALL], "nmt", "zh", "fr", False),
    ([SMALL, BIG], "nmt", "de", "ja", False),
    ([BIG, nmt("any_to_any", "en de")], "nmt", "zh", "de", False),
    ([BIG, nmt("any_to_any", "en de")], "nmt", "de", "en", True),
    # the source is recognised
    ([asr("zh"), ANY], "nmt", "auto", "en", True),
    ([asr("zh"), ANY], "nmt", "auto", "zh", False),
    ([asr("zh en"), ANY], "nmt", "auto", "zh", True),
    ([asr("zh"), ANY], "asr nmt", "auto", "ja", True),
    ([asr("de"), ANY], "nmt", "auto", "en", False),
    ([ANY], "nmt", "auto", "en", False),
    ([asr("zh", ready=False), ANY], "nmt", "auto", "en", False),
    ([asr("zh"), nmt("any_to_any", "zh en", ready=False)], "nmt", "auto", "en", False),
    ([asr("zh"), STOPPED], "nmt", "auto", "ja", False),
    ([asr("zh en"), STOPPED], "nmt", "auto", "ja", True),
    ([asr("zh"), nmt("any_to_en", "zh de")], "nmt", "auto", "en-us", True),
    ([asr("en"), nmt("any_to_en", "zh de")], "nmt", "auto", "en", False),
    ([asr("zh"), nmt("pairs", "de>en")], "nmt", "auto", "en", False),
    # the whole chain
    (CHAIN, "asr nmt tts", "zh", "en", True),
    (CHAIN, "asr nmt tts semantic", "zh-CN", "de-DE", True),
    (CHAIN, "asr nmt tts", "zh", "zh", False),
    (CHAIN, "asr nmt tts", "de", "en", False),
    (CHAIN, "asr nmt tts semantic", "auto", "en", True),
    (CHAIN, "asr nmt semantic", "en", "de", False),
]


def test_the_table_is_long_enough_to_say_the_rules() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize(("node", "services", "src", "tgt", "can"), CASES)
def test_a_node_serves_what_its_rules_say_and_nothing_else(
    node: Sequence[Service],
    services: str,
    src: str | None,
    tgt: str | None,
    can: bool,  # noqa: FBT001
) -> None:
    if "nmt" in services.split() and src == tgt:
        with pytest.raises(BadInput, match="tgt must differ from src where nmt is asked: leave nmt out"):
            serves(node, services, src, tgt)
        assert not can
    else:
        assert serves(node, services, src, tgt) is can


TOKENS: list[tuple[Sequence[Service], str]] = [
    ([], ""),
    ([asr("zh-CN zh en")], "asr:en asr:zh"),
    ([nmt("any_to_any", "zh en")], "nmt.any:en nmt.any:zh"),
    ([nmt("any_to_any", "zh")], ""),
    ([nmt("pairs", "zh>zh-CN zh>en")], "nmt:zh>en"),
    ([nmt("any_to_en", "en")], ""),
    ([nmt("any_to_any", "zh en", "zh>en")], "nmt:en>zh"),
    ([nmt("any_to_any", "zh en", "zh>de")], "nmt.any:en nmt.any:zh"),
    # what lies within the one set adds nothing
    ([BIG, nmt("any_to_any", "zh ja")], "nmt.any:en nmt.any:ja nmt.any:zh"),
    ([nmt("pairs", "zh>ja"), BIG, nmt("any_to_en", "zh")], "nmt.any:en nmt.any:ja nmt.any:zh"),
    ([BIG, STOPPED], "nmt.any:en nmt.any:ja nmt.any:zh"),
    ([BIG, SMALL], "nmt.any:en nmt.any:ja nmt.any:zh nmt:de>fr nmt:fr>de"),
    ([BIG, nmt("any_to_any", "en de")], "nmt.any:en nmt.any:ja nmt.any:zh nmt:de>en nmt:en>de"),
    # of two equal sets always the same one, whatever the order
    ([nmt("any_to_any", "fr it"), nmt("any_to_any", "de it")], "nmt.any:de nmt.any:it nmt:fr>it nmt:it>fr"),
    ([nmt("any_to_any", "de it"), nmt("any_to_any", "fr it")], "nmt.any:de nmt.any:it nmt:fr>it nmt:it>fr"),
    # a larger set that is blocked somewhere is none for nmt.any
    ([nmt("any_to_any", "zh en ja", "zh>ja zh>en ja>zh en>zh"), SMALL], "nmt.any:de nmt.any:fr nmt:en>ja nmt:ja>en"),
    ([asr("zh"), nmt("any_to_any", "zh en")], "asr:zh nmt.any:en nmt.any:zh nmt.auto:en"),
    ([asr("zh en"), nmt("pairs", "zh>en")], "asr:en asr:zh nmt.auto:en nmt:zh>en"),
    ([asr("zh"), nmt("pairs", "en>zh")], "asr:zh nmt:en>zh"),
]


@pytest.mark.parametrize(("node", "tokens"), TOKENS)
def test_the_tokens_are_few_sorted_and_distinct(node: Sequence[Service], tokens: str) -> None:
    assert tokens_offered(node) == tuple(tokens.split())


def codes(count: int) -> tuple[str, ...]:
    return tuple(f"{chr(97 + i // 26)}{chr(97 + i % 26)}x" for i in range(count))


def test_200_languages_for_all_services_are_within_the_limit() -> None:
    spoken = codes(200)
    tokens = tokens_offered([Asr(spoken), Tts(spoken), Semantic(spoken), Nmt("any_to_any", spoken)])
    assert len(tokens) == 1_000


def test_a_node_of_more_tokens_than_may_be_is_told_the_limit_and_the_count() -> None:
    blocked = Nmt("any_to_any", codes(40), blocked=("aax>abx",))
    with pytest.raises(BadInput, match="services give at least 1559 tokens, a node may offer at most 1024"):
        tokens_offered([blocked])
    with pytest.raises(BadInput, match="services give at least 1599 tokens"):
        tokens_offered([Tts(codes(40)), blocked])
    spoken: list[Service] = [Asr(codes(512)), Tts(codes(512))]
    assert len(tokens_offered(spoken)) == 1_024
    with pytest.raises(BadInput, match="services give at least 1025 tokens"):
        tokens_offered([*spoken, semantic("zh")])


BAD_NODES: list[tuple[Service, str]] = [
    (asr(""), "services[0].languages must be 1 to 512, not 0"),
    (tts("zh " * 513), "services[0].languages must be 1 to 512, not 513"),
    (asr("zh chinese"), "services[0].languages[1] must be a language code of at most 35 characters"),
    (semantic("auto"), "services[0].languages[0] must be a language: auto is for the src of a request only"),
    (asr("chinese", ready=False), "services[0].languages[0] must be a language code"),
    (nmt("any_to_any", ""), "services[0].languages must be 1 to 512, not 0"),
    (nmt("any_to_en", "zh >"), "services[0].languages[1] must be a language code"),
    (nmt("pairs", ""), "services[0].pairs must be 1 to 1024, not 0"),
    (nmt("pairs", "zh>en " * 1_025), "services[0].pairs must be 1 to 1024, not 1025"),
    (nmt("pairs", "zh>en zh-en"), "services[0].pairs[1] must be two languages with > between them, such as zh>en"),
    (nmt("pairs", "zh>en>de"), "services[0].pairs[0] must be two languages"),
    (nmt("pairs", "zh>"), "services[0].pairs[0] must be a language code"),
    (nmt("pairs", "auto>en"), "services[0].pairs[0] must be a language: auto"),
    (nmt("any_to_any", "zh en", "zh"), "services[0].blocked[0] must be two languages"),
    (nmt("any_to_any", "zh en", "zh>en " * 1_025), "services[0].blocked must be 0 to 1024, not 1025"),
    (nmt("any_to_any", "x", ready=False), "services[0].languages[0] must be a language code"),
    (Nmt("pairs", ("zh",), ("zh>en",)), "services[0].languages must not be given where rule is pairs"),
    (Nmt("any_to_any", ("zh", "en"), ("zh>en",)), "services[0].pairs must not be given where rule is any_to_any"),
]


@pytest.mark.parametrize(("service", "said"), BAD_NODES)
def test_a_bad_entry_is_named_with_its_field_and_limit(service: Service, said: str) -> None:
    with pytest.raises(BadInput, match=re.escape(said)):
        tokens_offered([service])
    with pytest.raises(BadInput, match=re.escape(said.replace("[0]", "[1]", 1))):
        tokens_offered([asr("zh"), service])


def test_a_node_has_at_most_32_services() -> None:
    assert tokens_offered([asr("zh")] * 32) == ("asr:zh",)
    with pytest.raises(BadInput, match="services must be at most 32, not 33"):
        tokens_offered([asr("zh")] * 33)


def test_services_join_the_capabilities_and_one_token_there_must_be() -> None:
    assert offered(["gpu", "asr:zh", "gpu"], [asr("zh en")]) == ("gpu", "asr:zh", "asr:en")
    assert offered([], [asr("zh")]) == ("asr:zh",)
    for nothing in ([], [asr("zh", ready=False)]):
        with pytest.raises(BadInput, match="capabilities must be 1 to 1024 tokens, with those of its ready services"):
            offered([], nothing)
    with pytest.raises(BadInput, match=r"capabilities must be 1 to 1024 tokens, .*, not 1025"):
        offered((f"t{i}" for i in range(1_024)), [asr("zh")])
    with pytest.raises(BadInput, match="capabilities must be 1 to 128 characters"):
        offered(["a b"], [asr("zh")])


BAD_REQUESTS: list[tuple[str, str | None, str | None, str]] = [
    ("asr", None, "en", "src must be given where asr is asked"),
    ("semantic asr", None, None, "src must be given where asr or semantic is asked"),
    ("nmt", None, "en", "src must be given where nmt is asked"),
    ("nmt", "zh", None, "tgt must be given where nmt is asked"),
    ("nmt tts", "auto", None, "tgt must be given where nmt or tts is asked"),
    ("tts", "zh", None, "tgt must be given where tts is asked"),
    ("asr ocr", "zh", None, "services[1] must be one of asr, nmt, semantic, tts"),
    ("ASR", "zh", None, "services[0] must be one of asr, nmt, semantic, tts"),
    ("asr " * 33, "zh", None, "services must be at most 32, not 33"),
    ("asr", "", None, "src must be a language code of at most 35 characters"),
    ("asr", "chinese", None, "src must be a language code"),
    ("asr", "zh", "?", "tgt must be a language code"),
    ("tts", None, "auto", "tgt must be a language: auto is for the src of a request only"),
    ("nmt", "auto", "auto", "tgt must be a language: auto"),
    ("nmt", "zh", "zh", "tgt must differ from src where nmt is asked: leave nmt out"),
    ("asr nmt", "zh-CN", "cmn", "tgt must differ from src where nmt is asked"),
]


@pytest.mark.parametrize(("services", "src", "tgt", "said"), BAD_REQUESTS)
def test_a_bad_request_names_its_field(services: str, src: str | None, tgt: str | None, said: str) -> None:
    with pytest.raises(BadInput, match=re.escape(said)):
        required(services.split(), src, tgt)


@pytest.mark.parametrize(
    ("src", "tgt", "languages"),
    [
        ("zh-CN", "en-US", ("en", "zh")),
        ("zh", "zh-cn", ("zh",)),
        ("auto", "en", ("en",)),
        ("zh", None, ("zh",)),
        ("auto", None, ()),
    ],
)
def test_the_languages_of_a_request_are_sorted_distinct_and_without_auto(
    src: str, tgt: str | None, languages: tuple[str, ...]
) -> None:
    assert required(["asr"], src, tgt).languages == languages


CODES = ["de", "en", "fr", "ja", "zh"]
some = st.lists(st.sampled_from(CODES), min_size=1, max_size=5).map(tuple)
some_pairs = st.lists(st.sampled_from([f"{s}>{t}" for s in CODES for t in CODES]), max_size=6).map(tuple)
ruled: st.SearchStrategy[Service] = st.builds(
    Nmt,
    st.sampled_from(("any_to_any", "any_to_any", "any_to_en", "en_to_any")),
    languages=some,
    blocked=some_pairs,
    ready=st.booleans(),
)
plain: st.SearchStrategy[Service] = st.builds(Nmt, st.just("any_to_any"), languages=some)
paired: st.SearchStrategy[Service] = st.builds(
    Nmt, st.just("pairs"), pairs=some_pairs.filter(bool), blocked=some_pairs
)
heard: st.SearchStrategy[Service] = st.builds(Asr, some, st.booleans())
nodes = st.lists(st.one_of(ruled, plain, plain, paired, heard), max_size=6)


def translated_by(service: Nmt) -> set[str]:
    """By definition: each ordered pair of two languages that the rule covers and no block of this model names."""
    covered = set()
    for src, tgt in permutations(CODES, 2):
        both = {src, tgt} <= set(service.languages)
        covers = {
            "any_to_any": both,
            "any_to_en": src in service.languages and tgt == "en",
            "en_to_any": src == "en" and tgt in service.languages,
            "pairs": f"{src}>{tgt}" in service.pairs,
        }
        if service.ready and covers[service.rule] and f"{src}>{tgt}" not in service.blocked:
            covered.add(f"{src}>{tgt}")
    return covered


@given(nodes)
def test_a_node_translates_exactly_the_pairs_that_one_of_its_models_does(node: list[Service]) -> None:
    pairs = set().union(*(translated_by(service) for service in node if isinstance(service, Nmt)))
    hears = {code for service in node if isinstance(service, Asr) and service.ready for code in service.languages}
    for src, tgt in permutations(CODES, 2):
        assert serves(node, "nmt", src, tgt) is (f"{src}>{tgt}" in pairs), (src, tgt)
        assert serves(node, "asr nmt", src, tgt) is (src in hears and f"{src}>{tgt}" in pairs)
    for tgt in CODES:
        assert serves(node, "nmt", "auto", tgt) is any(f"{src}>{tgt}" in pairs for src in hears), tgt


@given(nodes, st.randoms())
def test_the_order_of_entries_and_their_spelling_change_nothing(node: list[Service], random: Random) -> None:
    shuffled = list(node)
    random.shuffle(shuffled)
    assert tokens_offered(shuffled) == tokens_offered(node)
    loud = [msgspec.structs.replace(s, languages=tuple(code.upper() for code in s.languages)) for s in node]
    assert tokens_offered(loud) == tokens_offered(node)
