"""The language form of what a job needs, turned into alternatives of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.domain.ids import Token
from scheduler.domain.languages import AUTO, Language, language
from scheduler.domain.services import SERVICES_MAX
from scheduler.errors import BadInput

SERVICE_NAMES = ("asr", "nmt", "semantic", "tts")
_NEED_SRC, _NEED_TGT = {"asr", "nmt", "semantic"}, {"nmt", "tts"}


@dataclass(frozen=True, slots=True)
class Required:
    """One of the conjunctions is needed. `languages` are those that the request names, sorted; auto names none."""

    any_of: tuple[frozenset[Token], ...]
    languages: tuple[Language, ...]


def required(services: Sequence[str] = (), src: str | None = None, tgt: str | None = None) -> Required:
    """At most two alternatives of at most five tokens; without services one that needs nothing.

    src may be auto: any language that the node recognises will do. A language that no service needs is allowed.
    """
    asked = set(services)
    if len(services) > SERVICES_MAX:
        raise BadInput("services", f"must be at most {SERVICES_MAX}, not {len(services)}")
    for i, name in enumerate(services):
        if name not in SERVICE_NAMES:
            raise BadInput(f"services[{i}]", f"must be one of {', '.join(SERVICE_NAMES)}")
    for field, given, needing in (("src", src, asked & _NEED_SRC), ("tgt", tgt, asked & _NEED_TGT)):
        if given is None and needing:
            raise BadInput(field, f"must be given where {' or '.join(sorted(needing))} is asked")
    auto = src is not None and src.lower() == AUTO
    source = None if src is None or auto else language("src", src)
    target = None if tgt is None else language("tgt", tgt)
    named = tuple(sorted({code for code in (source, target) if code is not None}))

    tokens = {Token(name if auto else f"{name}:{source}") for name in asked & {"asr", "semantic"}}
    tokens |= {Token(f"tts:{target}") for _ in asked & {"tts"}}
    if "nmt" not in asked:
        return Required((frozenset(tokens),), named)
    if auto:
        return Required((frozenset(tokens | {Token(f"nmt.auto:{target}")}),), named)
    if source == target:
        raise BadInput("tgt", "must differ from src where nmt is asked: leave nmt out")
    exact = {Token(f"nmt:{source}>{target}")}
    among = {Token(f"nmt.any:{source}"), Token(f"nmt.any:{target}")}
    return Required((frozenset(tokens | exact), frozenset(tokens | among)), named)
