"""The rows over HTTP run to their end in their quick form; their figures mean nothing here."""

import os
import shutil

import pytest

from scheduler.bench.rows import row
from scheduler.bench.stage import Plan
from scheduler.dev.server import choose_server

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]


@pytest.mark.parametrize("key", ["a", "b", "h", "i", "k"])
def test_a_row_answers_figures_with_values_and_targets(key: str) -> None:
    if key in {"a", "b"} and shutil.which("wrk") is None:
        pytest.skip("wrk is not installed")
    choice, _ = choose_server({"PATH": os.environ["PATH"]})
    figures = list(row(key)(Plan(choice, pairs=1, seconds=0.5, quick=True)))
    assert {figure.row for figure in figures} == {key}
    assert all(figure.value for figure in figures)
    assert all(figure.reached is not None for figure in figures)
