"""A quick run of rows: each gives figures; what they are is for the table."""

import os

import pytest

from scheduler.bench.rows import row
from scheduler.bench.stage import Plan
from scheduler.dev.server import choose_server

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]


def quick() -> Plan:
    choice, _ = choose_server({"PATH": os.environ["PATH"]})
    return Plan(choice, pairs=1, seconds=0.3, quick=True)


def test_row_c_has_a_line_for_each_peer() -> None:
    plan = quick()
    if not plan.peers_python.exists():
        pytest.skip("the peers have no environment: `make bench` makes it")
    figures = list(row("c")(plan))
    assert len(figures) == 8
    assert [figure.missing for figure in figures if figure.missing] == []


def test_row_g_has_the_rate_and_the_load() -> None:
    assert [figure.unit for figure in row("g")(quick())] == ["/s", "%"]
