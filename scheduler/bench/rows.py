"""The rows of the table, in order; each is a function from the plan to its figures."""

import importlib
from collections.abc import Callable, Iterator

from scheduler.bench.figures import Figure
from scheduler.bench.stage import Plan

Row = Callable[[Plan], Iterator[Figure]]

ROWS: dict[str, tuple[str, str]] = {
    "a": ("placements over HTTP beside a bare route", "scheduler.bench.over_http:beside_bare"),
    "b": ("placements over HTTP beside one call a request", "scheduler.bench.over_http:beside_naive"),
    "c": ("a placement beside what users would otherwise call per job", "scheduler.bench.enqueues:run"),
    "d": ("a claim in Redis beside SET", "scheduler.bench.claim:run"),
    "e": ("selection at 100 and 100,000 nodes", "scheduler.bench.selection:run"),
    "f": ("the mirror at 100,000 nodes", "scheduler.bench.refresh:run"),
    "g": ("heartbeats", "scheduler.bench.heartbeats:run"),
    "h": ("latency at half of saturation", "scheduler.bench.latency:run"),
    "i": ("CPU of a placement with more replicas", "scheduler.bench.scaling:run"),
    "j": ("quality of placement, real and simulated", "scheduler.bench.quality:run"),
    "k": ("three times more than can be placed", "scheduler.bench.overload:run"),
    "l": ("CPU of a placement with more primaries", "scheduler.bench.primaries:run"),
}


def row(key: str) -> Row:
    """The function of a row; imported when it is asked for, because rows need different things."""
    module, _, name = ROWS[key][1].partition(":")
    found: Row = getattr(importlib.import_module(module), name)
    return found
