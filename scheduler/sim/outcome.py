"""What became of the jobs of one simulation."""

from collections import Counter
from dataclasses import dataclass, field

import msgspec


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One policy in one simulation; None where nothing was there to measure.

    Conflicts: jobs whose first shortlist was full while another node had a slot, in percent of all jobs. Hottest ÷
    mean: of the nodes' loads over time; where jobs come in bursts, of what each burst placed. In vain: refused while
    a slot was free in the deciding step.
    """

    policy: str
    nodes: int
    replicas: int
    refresh_ms: int
    d: int
    requests: int
    placed: int
    refused: int
    refused_in_vain: int
    conflicts_percent: float
    hottest_to_mean: float | None
    round_trips: float | None
    wait_p50_ms: float | None
    wait_p99_ms: float | None


@dataclass
class Tally:
    """Counts while a simulation runs."""

    refused: int = 0
    in_vain: int = 0
    conflicts: int = 0
    trips: Counter[int] = field(default_factory=Counter)
    heat: list[float] = field(default_factory=list)

    @property
    def placed(self) -> int:
        return self.trips.total()

    @property
    def requests(self) -> int:
        return self.placed + self.refused

    def waited(self, share: float) -> int | None:
        """Round trips of the placement that this share of all placements did not exceed."""
        left = share * self.placed
        for trips, count in sorted(self.trips.items()):
            left -= count
            if left <= 0:
                return trips
        return None

    @property
    def mean_trips(self) -> float | None:
        if not self.placed:
            return None
        return sum(trips * count for trips, count in self.trips.items()) / self.placed
