"""measuring: what is counted, and what is printed."""

import json

import pytest

from scheduler.bench.peers.measuring import CALLERS, measure, measure_async, report


def test_rates_are_by_both_clocks(capsys: pytest.CaptureFixture[str]) -> None:
    report(10, wall_s=2, cpu_s=0.5)
    assert json.loads(capsys.readouterr().out) == {"per_second": 5, "per_cpu_second": 20}


def test_the_first_calls_are_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[int] = []
    measure(lambda: calls.append(1), 0)
    assert len(calls) == CALLERS
    assert json.loads(capsys.readouterr().out)["per_second"] == 0


async def test_as_many_callers_as_told_are_under_way(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[int] = []

    async def call() -> None:
        calls.append(1)

    await measure_async(call, 0.01)
    assert len(calls) > CALLERS
    assert json.loads(capsys.readouterr().out)["per_second"] > 0
