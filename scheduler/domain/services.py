"""The language form of what a node offers, turned into tokens; all other code knows only the tokens."""

from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from scheduler.domain.ids import Token, checked_token
from scheduler.domain.languages import LANGUAGE_MAX, LANGUAGE_PATTERN, Language, language
from scheduler.domain.translation import Model, Pair, Rule, model, pair, reach
from scheduler.errors import BadInput

OFFER_MAX = 1_024
SERVICES_MAX = 32
LANGUAGES_MAX = 512
PAIRS_MAX = 1_024

# The pattern is for readers of the schema: `language` checks it, and says in words what is wrong.
Code = Annotated[str, Meta(extra_json_schema={"pattern": LANGUAGE_PATTERN, "maxLength": LANGUAGE_MAX})]
Codes = Annotated[tuple[Code, ...], Meta(max_length=LANGUAGES_MAX)]
_PAIR_PATTERN = f"{LANGUAGE_PATTERN[:-2]}>{LANGUAGE_PATTERN[1:]}"
PairText = Annotated[str, Meta(extra_json_schema={"pattern": _PAIR_PATTERN, "maxLength": 2 * LANGUAGE_MAX + 1})]
PairTexts = Annotated[tuple[PairText, ...], Meta(max_length=PAIRS_MAX)]


class Installed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="service", tag=str.lower):
    """A model that a node has; `service` says of which kind. While it is not ready it is not offered."""


class Spoken(Installed, frozen=True):
    languages: Annotated[Codes, Meta(min_length=1)]
    ready: bool = True


class Asr(Spoken, frozen=True):
    """Speech recognition."""


class Tts(Spoken, frozen=True):
    """Speech synthesis."""


class Semantic(Spoken, frozen=True):
    """Understanding of text."""


class Nmt(Installed, frozen=True):
    """Translation: a rule over languages, or pairs such as zh>en; this model does not translate the blocked pairs."""

    rule: Rule
    languages: Codes = ()
    pairs: PairTexts = ()
    blocked: PairTexts = ()
    ready: bool = True


Service = Asr | Tts | Semantic | Nmt


def _counted(field: str, values: Sequence[str], low: int, high: int) -> Iterable[tuple[str, str]]:
    """Each value with the name of its place, for messages."""
    if not low <= len(values) <= high:
        raise BadInput(field, f"must be {low} to {high}, not {len(values)}")
    return ((f"{field}[{i}]", value) for i, value in enumerate(values))


def _languages(field: str, codes: Sequence[str]) -> frozenset[Language]:
    return frozenset(language(at, code) for at, code in _counted(field, codes, 1, LANGUAGES_MAX))


def _pairs(field: str, texts: Sequence[str], low: int = 0) -> frozenset[Pair]:
    return frozenset(pair(at, text) for at, text in _counted(field, texts, low, PAIRS_MAX))


def _model(field: str, service: Nmt) -> Model:
    by_pairs = service.rule == "pairs"
    if service.languages if by_pairs else service.pairs:
        unused = "languages" if by_pairs else "pairs"
        raise BadInput(f"{field}.{unused}", f"must not be given where rule is {service.rule}")
    languages = frozenset() if by_pairs else _languages(f"{field}.languages", service.languages)
    pairs = _pairs(f"{field}.pairs", service.pairs, 1) if by_pairs else frozenset()
    return model(service.rule, languages, pairs, _pairs(f"{field}.blocked", service.blocked))


def tokens_offered(services: Sequence[Service]) -> tuple[Token, ...]:
    """The tokens of a node's ready services, sorted and distinct; entries that are not ready are checked as well.

    BadInput names the entry and its field, or the limit and the count.
    """
    if len(services) > SERVICES_MAX:
        raise BadInput("services", f"must be at most {SERVICES_MAX}, not {len(services)}")
    tokens: set[str] = set()
    recognised: set[Language] = set()
    models: list[Model] = []
    for i, service in enumerate(services):
        if isinstance(service, Nmt):
            found = _model(f"services[{i}]", service)
            models += [found] if service.ready else []
            continue
        spoken = _languages(f"services[{i}].languages", service.languages)
        if service.ready:
            tokens.update(f"{service.__struct_config__.tag}:{code}" for code in spoken)
            recognised |= spoken if isinstance(service, Asr) else set()
    within, exact = reach(models, OFFER_MAX)
    heard = within & recognised
    into = {tgt for tgt in within if heard - {tgt}} | {tgt for src, tgt in exact if src in recognised}
    tokens.update(f"nmt.any:{code}" for code in within)
    tokens.update(f"nmt:{src}>{tgt}" for src, tgt in exact)
    tokens.update(f"nmt.auto:{tgt}" for tgt in into)
    if len(tokens) > OFFER_MAX:
        raise BadInput("services", f"give at least {len(tokens)} tokens, a node may offer at most {OFFER_MAX}")
    return tuple(map(Token, sorted(tokens)))


def offered(capabilities: Iterable[str], services: Sequence[Service] = ()) -> tuple[Token, ...]:
    """All that a node offers: the tokens that it names itself, then those of its services."""
    named = [checked_token("capabilities", token) for token in capabilities]
    tokens = tuple(dict.fromkeys((*named, *tokens_offered(services))))
    if not 1 <= len(tokens) <= OFFER_MAX:
        what = f"must be 1 to {OFFER_MAX} tokens, with those of its ready services, not {len(tokens)}"
        raise BadInput("capabilities", what)
    return tokens
