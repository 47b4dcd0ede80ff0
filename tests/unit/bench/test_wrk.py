"""What is made of the output of wrk: its script's last line, and nothing but the expected status."""

import pytest

from scheduler.bench.wrk import Run, read_run
from scheduler.errors import BenchmarkFailed

SAID = """Running 3s test @ http://127.0.0.1:8080/v1/jobs
  1 threads and 48 connections
Requests/sec:   2778.23
{"seconds":3.044030,"p50_ms":15.393,"p99_ms":61.276,"broken":0,"statuses":{"201":8457}}
"""


def run(statuses: dict[int, int], broken: int = 0) -> Run:
    return Run(seconds=2.0, p50_ms=1, p99_ms=2, broken=broken, statuses=statuses)


def test_the_last_line_is_read_whatever_wrk_prints_before() -> None:
    assert read_run(SAID) == Run(3.04403, 15.393, 61.276, 0, {201: 8457})


@pytest.mark.parametrize("said", ["", "unable to connect to 127.0.0.1:1 Connection refused\n", SAID + "more\n"])
def test_an_output_without_that_line_is_a_failure(said: str) -> None:
    with pytest.raises(BenchmarkFailed, match="wrk ended with"):
        read_run(said)


def test_the_rate_is_that_of_the_expected_answers() -> None:
    assert run({201: 500}).rate() == 250
    assert run({200: 500}).rate(200) == 250


@pytest.mark.parametrize("ran", [run({201: 500, 503: 1}), run({201: 500}, broken=1), run({200: 500}), run({})])
def test_any_other_answer_or_a_broken_connection_spoils_the_run(ran: Run) -> None:
    with pytest.raises(BenchmarkFailed, match="only 201 may be"):
        ran.rate()
