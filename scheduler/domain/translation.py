"""Which pairs of languages the translation models of one node cover together, in few words."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from scheduler.domain.languages import Language, language
from scheduler.errors import BadInput

Rule = Literal["any_to_any", "any_to_en", "en_to_any", "pairs"]
Pair = tuple[Language, Language]

_EN = Language("en")
_NONE: frozenset[Language] = frozenset()


@dataclass(frozen=True, slots=True)
class Model:
    """One model: every pair among some languages but the blocked ones, and further pairs."""

    among: frozenset[Language] = _NONE
    blocked: frozenset[Pair] = frozenset()
    pairs: frozenset[Pair] = frozenset()


def pair(field: str, text: str) -> Pair:
    """The pair that `zh>en` names, in the one spelling of both."""
    src, arrow, tgt = text.partition(">")
    if not arrow or ">" in tgt:
        raise BadInput(field, "must be two languages with > between them, such as zh>en")
    return language(field, src), language(field, tgt)


def model(rule: Rule, languages: frozenset[Language], pairs: Iterable[Pair], blocked: Iterable[Pair]) -> Model:
    """A language with itself, which two spellings can make, is no pair; a block of no pair of the rule is none."""
    if rule == "any_to_any":
        stops = frozenset((s, t) for s, t in blocked if s != t and s in languages and t in languages)
        return Model(languages, stops)
    if rule == "any_to_en":
        pairs = {(code, _EN) for code in languages}
    elif rule == "en_to_any":
        pairs = {(_EN, code) for code in languages}
    return Model(pairs=frozenset((s, t) for s, t in pairs if s != t) - frozenset(blocked))


def reach(models: Iterable[Model], enough: int) -> tuple[frozenset[Language], frozenset[Pair]]:
    """A set of languages with every pair among them, and the pairs beside those.

    The set is the largest that one model covers without a block: two models' sets must not mix. Ends early, with the
    pairs found so far, once there are more than enough.
    """
    models = tuple(models)
    whole = sorted((m.among for m in models if not m.blocked), key=lambda among: (-len(among), sorted(among)))
    within = whole[0] if whole and len(whole[0]) > 1 else _NONE
    exact: set[Pair] = set()
    for one in models:
        outside = one.among - within
        among = {(s, t) for s in one.among for t in (outside if s in within else one.among) if s != t}
        # a block is of its model: another may cover the pair
        exact |= among - one.blocked
        exact |= {(s, t) for s, t in one.pairs if s not in within or t not in within}
        if len(exact) > enough:
            break
    return within, frozenset(exact)
