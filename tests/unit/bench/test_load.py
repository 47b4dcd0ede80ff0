"""The arithmetic of the load process: percentiles, and instants at which requests are due."""

import asyncio
import time

import pytest

from scheduler.bench.load import only_placed, paced, percentile
from scheduler.bench.targets import Seen
from scheduler.errors import BenchmarkFailed


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.5, 0),
        ([7], 0.0, 7),
        ([7], 0.99, 7),
        ([3, 1, 2], 0.5, 2),
        ([4, 3, 2, 1], 0.5, 2),
        (list(range(1, 101)), 0.99, 99),
        (list(range(1, 1_001)), 0.99, 990),
        ([1, 2], 1.0, 2),
    ],
)
def test_a_percentile_is_the_least_value_that_the_share_does_not_exceed(
    values: list[int], share: float, expected: int
) -> None:
    assert percentile(values, share) == expected


async def test_requests_are_due_at_even_distances_however_late_they_are_sent() -> None:
    dues: list[float] = []

    def send(due: float) -> None:
        dues.append(due)
        if len(dues) == 5:
            # the client is held up: what was due meanwhile keeps its instant
            time.sleep(0.05)

    began = time.monotonic()
    await asyncio.wait_for(paced(200, 0.1, send), 5)
    assert len(dues) == 20
    assert began <= dues[0] < began + 0.05
    assert [round(due - dues[0], 6) for due in dues] == [round(i / 200, 6) for i in range(20)]


def test_a_load_that_saw_only_placements_is_taken() -> None:
    saw = Seen(latencies={201: [5, 3]}, seconds=1.0)
    assert only_placed(saw) is saw
    assert saw.all() == [5, 3]


@pytest.mark.parametrize(
    "saw",
    [
        Seen(),
        Seen(latencies={201: [1], 503: [1]}),
        Seen(latencies={201: [1]}, broken=1),
        Seen(latencies={201: [1]}, unsent=1),
        Seen(latencies={201: [1]}, unanswered=1),
    ],
)
def test_a_load_that_saw_anything_else_spoils_the_measurement(saw: Seen) -> None:
    with pytest.raises(BenchmarkFailed, match="only 201 may be"):
        only_placed(saw)
