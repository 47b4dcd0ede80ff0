"""What a benchmark answers: a figure with its target, and how a ratio is measured on a machine that is not quiet."""

import statistics
from collections.abc import Callable

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table: `value` is the median of the `samples`, `detail` has the absolutes.

    A figure without a target is for orientation. `missing` says why there is no value.
    """

    row: str
    what: str
    unit: str
    value: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    samples: list[float] = []
    detail: dict[str, float] = {}
    missing: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the target is met; None where there is no target or no value."""
        if self.value is None or (self.at_least is None and self.at_most is None):
            return None
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)


class Ratio(msgspec.Struct, frozen=True):
    """Median of the pairs' ratios, with the medians of both sides."""

    value: float
    subject: float
    baseline: float
    samples: list[float]


def paired(subject: Callable[[], float], baseline: Callable[[], float], pairs: int) -> Ratio:
    """Measure both in turns, the first to go alternating, after one round of each that does not count.

    What the machine does besides falls on both of a pair alike, so their ratio holds where neither rate does.
    """
    baseline()
    subject()
    ours: list[float] = []
    theirs: list[float] = []
    for turn in range(pairs):
        if turn % 2:
            ours.append(subject())
            theirs.append(baseline())
        else:
            theirs.append(baseline())
            ours.append(subject())
    samples = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Ratio(statistics.median(samples), statistics.median(ours), statistics.median(theirs), samples)
