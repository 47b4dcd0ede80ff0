"""Rates and latencies from counters."""

import asyncio
import math

import pytest
from prometheus_client import CollectorRegistry, Counter

from scheduler.http.tally import Tally
from scheduler.ui.pace import POINTS, Pace, Reading, latency_ms, rates, read


def test_a_rate_is_the_difference_over_the_time_and_what_stood_still_is_left_out() -> None:
    assert rates({"a": 1, "b": 5}, {"a": 5, "b": 5, "c": 2}, 2) == {"a": 2, "c": 1}
    assert rates({}, {"a": 5}, 0) == {}


def test_a_latency_is_the_bound_within_which_the_share_of_the_new_verdicts_came() -> None:
    old = Reading(0, claims=((0.001, 5), (0.01, 5), (math.inf, 5)))
    new = Reading(1, claims=((0.001, 6), (0.01, 14), (math.inf, 15)))
    assert latency_ms(old, new, 0.1) == 1
    assert latency_ms(old, new, 0.5) == 10
    assert latency_ms(old, new, 0.99) == math.inf
    assert latency_ms(old, old, 0.5) is None
    assert latency_ms(Reading(0), Reading(1), 0.5) is None


def test_a_reading_has_what_the_registry_counts() -> None:
    registry = CollectorRegistry()
    Counter("fleet_placements", "-", registry=registry).inc(3)
    Counter("fleet_refusals", "-", ["class"], registry=registry).labels("impossible").inc()
    Counter("fleet_refusal_reasons", "-", ["reason"], registry=registry).labels("full").inc(2)
    tally = Tally("fleet_claim_seconds", "-", (0.001, 0.1))
    registry.register(tally)
    tally.observe(0.05)
    found = read(registry, 7)
    assert found.counts["placed"] == 3
    assert (found.refused, found.reasons) == ({"impossible": 1}, {"full": 2})
    assert found.claims == ((0.001, 0), (0.1, 1), (math.inf, 1))


async def test_a_pulse_sees_what_was_counted_a_moment_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = CollectorRegistry()
    counter = Counter("fleet_placements", "-", registry=registry)
    pace = Pace(registry)
    assert pace.pulse().rates == {}
    task = asyncio.create_task(pace.run())
    await asyncio.sleep(0)
    counter.inc(4)
    pulse = pace.pulse()
    assert pulse.total.counts["placed"] == 4
    assert pulse.rates["placed"] == pytest.approx(2)
    assert pace.course()["at"] == []
    monkeypatch.setattr("scheduler.ui.pace.EVERY_S", 0.01)
    async with asyncio.timeout(10):
        while not pace.course()["at"]:
            await asyncio.sleep(0.01)
    assert len(pace.course()["placed"]) <= POINTS
    assert max(x for x in pace.course()["placed"] if x is not None) > 0
    task.cancel()
