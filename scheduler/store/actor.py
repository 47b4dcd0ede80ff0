"""Who acts, for the audit: set at the door where a person or a program came in, read where a function is called."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# what lua/prelude.lua takes
_OTHER = re.compile(r"[^A-Za-z0-9._:@/-]")
_LONGEST = 128
_actor: ContextVar[str] = ContextVar("actor", default="")


def by() -> str:
    """Who acts in this context; empty where nobody said, and then nothing is audited."""
    return _actor.get()


@contextmanager
def acting(name: str) -> Iterator[None]:
    """Within it, calls are made by `name`; a character that the audit does not take becomes `-`."""
    before = _actor.set(_OTHER.sub("-", name)[:_LONGEST])
    try:
        yield
    finally:
        _actor.reset(before)
