"""Who acts, for the audit: set at the door where a person or a program came in, read where a function is called."""

import re
from collections.abc import Callable
from contextvars import ContextVar

# what lua/prelude.lua takes
_OTHER = re.compile(r"[^A-Za-z0-9._:@/-]")
_LONGEST = 128
_actor: ContextVar[Callable[[], str]] = ContextVar("actor", default=str)


def by() -> str:
    """Who acts in this context; empty where nobody said, and then nothing is audited.

    A character that the audit does not take becomes `-`.
    """
    return _OTHER.sub("-", _actor.get()())[:_LONGEST]


class Acting:
    """Within it, calls are made by whom `who` names. It is asked only by what is audited: a placement is not."""

    __slots__ = ("_before", "_who")

    def __init__(self, who: Callable[[], str]) -> None:
        self._who = who

    def __enter__(self) -> None:
        self._before = _actor.set(self._who)

    def __exit__(self, *_: object) -> None:
        _actor.reset(self._before)
