"""The rows of the table, in order; each is a function from the plan to its figures."""

import importlib
from collections.abc import Callable, Iterator

from scheduler.bench.figures import Figure
from scheduler.bench.stage import Plan

Row = Callable[[Plan], Iterator[Figure]]

ROWS: dict[str, tuple[str, str]] = {
    "d": ("a claim in Redis beside SET", "scheduler.bench.claim:run"),
    "j": ("quality of placement, real and simulated", "scheduler.bench.quality:run"),
}


def row(key: str) -> Row:
    """The function of a row; imported when it is asked for, because rows need different things."""
    module, _, name = ROWS[key][1].partition(":")
    found: Row = getattr(importlib.import_module(module), name)
    return found
