"""Rows run to their end in their quick form; what their figures are is for the table."""

import os
import shutil

import pytest

from scheduler.bench.rows import row
from scheduler.bench.stage import Plan
from scheduler.dev.server import choose_server

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]


def quick() -> Plan:
    choice, _ = choose_server({"PATH": os.environ["PATH"]})
    return Plan(choice, pairs=1, seconds=0.3, quick=True)


@pytest.mark.parametrize("key", ["a", "b", "d", "e", "f", "g", "h", "i", "k"])
def test_a_row_answers_figures_with_values_and_targets(key: str) -> None:
    if key in {"a", "b"} and shutil.which("wrk") is None:
        pytest.skip("wrk is not installed")
    if key == "d" and shutil.which("redis-benchmark") is None:
        pytest.skip("redis-benchmark is not installed")
    figures = list(row(key)(quick()))
    assert {figure.row for figure in figures} == {key}
    assert all(figure.value is not None for figure in figures)
    assert all(figure.reached is not None for figure in figures)


def test_row_c_has_a_line_for_each_peer() -> None:
    plan = quick()
    if not plan.peers_python.exists():
        pytest.skip("the peers have no environment: `make bench` makes it")
    figures = list(row("c")(plan))
    assert len(figures) == 8
    assert [figure.missing for figure in figures if figure.missing] == []
