"""Runs so many cases of a kind and says what was seen; the first case that breaks a rule is made small and shown."""

import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

# One search of hypothesis remembers what it tried: many short ones stay light.
CHUNK = 1_000


@dataclass
class Seen:
    """What became of the cases of one kind."""

    kind: str
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def cases(self) -> int:
        return self.outcomes.total()

    def told(self) -> str:
        parts = ", ".join(f"{name} {count:,}" for name, count in self.outcomes.most_common())
        bad = f"{len(self.violations)} violations"
        return f"{self.kind}: {self.cases:,} cases in {self.took_s:.0f} s, {bad}; {parts}"


def run(kind: str, cases: st.SearchStrategy[Any], judge: Callable[[Any], str], count: int, seed: int) -> Seen:
    """Judge so many cases; `judge` answers what became of one, or raises AssertionError where a rule is broken."""
    seen, started, chunk = Seen(kind), time.monotonic(), 0
    while seen.cases < count and len(seen.violations) < 5:
        _search(seen, cases, judge, min(CHUNK, count - seen.cases), seed + chunk)
        chunk += 1
        seen.took_s = time.monotonic() - started
        if chunk % 5 == 0:
            print(f"  {seen.told()}", file=sys.stderr, flush=True)
    return seen


def _search(seen: Seen, cases: st.SearchStrategy[Any], judge: Callable[[Any], str], count: int, seed: int) -> None:
    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(case=cases)
    def one(case: Any) -> None:
        try:
            seen.outcomes[judge(case)] += 1
        except Exception as error:
            error.add_note(repr(case)[:1_000])
            raise

    try:
        one()
    except Exception as error:  # noqa: BLE001 - whatever it is, no rule allows it
        what = "".join(traceback.format_exception_only(error)).strip()
        seen.violations.append(what[:2_000])
        print(f"  {seen.kind}: {seen.violations[-1]}", file=sys.stderr, flush=True)
        seen.outcomes["violation"] += 1
