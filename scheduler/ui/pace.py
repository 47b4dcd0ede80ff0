"""What this replica counts, as rates: its own metrics now against a moment ago, and their course of five minutes."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from prometheus_client import CollectorRegistry

EVERY_S = 0.5
# A rate is over the last two seconds, a latency over the last ten; the course has a point for each two seconds.
RATE_S, LATENCY_S, POINT_S, POINTS = 2.0, 10.0, 2.0, 150
_COUNTS = {
    "fleet_placements_total": "placed",
    "fleet_conflicts_total": "conflicts",
    "fleet_waits_total": "waits",
    "fleet_sheds_total": "sheds",
    "fleet_fallbacks_total": "fallbacks",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters at one moment. `claims`: how many verdicts took at most so many seconds, added up."""

    at: float
    counts: dict[str, float] = field(default_factory=dict)
    refused: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, float] = field(default_factory=dict)
    claims: tuple[tuple[float, float], ...] = ()


def read(registry: CollectorRegistry, at: float) -> Reading:
    counts = dict.fromkeys(_COUNTS.values(), 0.0)
    refused: dict[str, float] = {}
    reasons: dict[str, float] = {}
    claims: list[tuple[float, float]] = []
    for sample in (sample for family in registry.collect() for sample in family.samples):
        match sample.name:
            case "fleet_refusals_total":
                refused[sample.labels["class"]] = sample.value
            case "fleet_refusal_reasons_total":
                reasons[sample.labels["reason"]] = sample.value
            case "fleet_claim_seconds_bucket":
                claims.append((float(sample.labels["le"]), sample.value))
            case name if name in _COUNTS:
                counts[_COUNTS[name]] = sample.value
            case _:
                pass
    return Reading(at, counts, refused, reasons, tuple(claims))


def rates(old: dict[str, float], new: dict[str, float], seconds: float) -> dict[str, float]:
    """Per second; what did not happen is left out."""
    if seconds <= 0:
        return {}
    return {name: (value - old.get(name, 0)) / seconds for name, value in new.items() if value > old.get(name, 0)}


def latency_ms(old: Reading, new: Reading, share: float) -> float | None:
    """Within so many milliseconds this share of the verdicts came: a bound of the histogram. None without any.

    Beyond the last bound it is infinite.
    """
    before = dict(old.claims)
    came = [(bound, count - before.get(bound, 0)) for bound, count in new.claims]
    if not came or came[-1][1] <= 0:
        return None
    return next(bound for bound, count in came if count >= share * came[-1][1]) * 1000


@dataclass(frozen=True, slots=True)
class Pulse:
    """The present rates per second and latencies, with the totals since the replica started."""

    rates: dict[str, float]
    refused: dict[str, float]
    reasons: dict[str, float]
    p50_ms: float | None
    p99_ms: float | None
    total: Reading


class Pace:
    """Readings of the last seconds, and of every other second for five minutes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._recent: deque[Reading] = deque(maxlen=round(LATENCY_S / EVERY_S) + 1)
        self._course: deque[tuple[float, Reading]] = deque(maxlen=POINTS + 1)

    async def run(self) -> None:
        """For ever; costs a collection of the registry each half second."""
        turns = 0
        while True:
            reading = read(self._registry, time.monotonic())
            self._recent.append(reading)
            if turns % round(POINT_S / EVERY_S) == 0:
                self._course.append((time.time(), reading))
            turns += 1
            await asyncio.sleep(EVERY_S)

    def pulse(self) -> Pulse:
        """Up to this moment."""
        now = read(self._registry, time.monotonic())
        old = self._since(now, RATE_S)
        seconds = max(now.at - old.at, RATE_S) if self._recent else 0
        slow = self._since(now, LATENCY_S)
        return Pulse(
            rates(old.counts, now.counts, seconds),
            rates(old.refused, now.refused, seconds),
            rates(old.reasons, now.reasons, seconds),
            latency_ms(slow, now, 0.5),
            latency_ms(slow, now, 0.99),
            now,
        )

    def _since(self, now: Reading, seconds: float) -> Reading:
        """The newest reading that is at least so old, or the oldest."""
        older = (reading for reading in reversed(self._recent) if now.at - reading.at >= seconds)
        return next(older, self._recent[0] if self._recent else now)

    def course(self) -> dict[str, Sequence[float | None]]:
        """Columns for a chart: `at` in seconds, placements and refusals per second, latencies in milliseconds."""
        at: list[float] = []
        placed: list[float] = []
        refused: list[float] = []
        p50: list[float | None] = []
        p99: list[float | None] = []
        for (_, old), (moment, new) in pairwise(self._course):
            seconds = new.at - old.at
            at.append(round(moment, 1))
            placed.append(round(rates(old.counts, new.counts, seconds).get("placed", 0.0), 2))
            refused.append(round(sum(rates(old.refused, new.refused, seconds).values()), 2))
            p50.append(_finite(latency_ms(old, new, 0.5)))
            p99.append(_finite(latency_ms(old, new, 0.99)))
        return {"at": at, "placed": placed, "refused": refused, "p50_ms": p50, "p99_ms": p99}


def _finite(value: float | None) -> float | None:
    """Infinity is no JSON; such a verdict took longer than the last bound."""
    return None if value is None or value == float("inf") else round(value, 3)
