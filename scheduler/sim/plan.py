"""What a simulation is asked: the fleet, its replicas, and the work that comes to them."""

import random
from dataclasses import dataclass, replace
from typing import Any, Literal

from scheduler.errors import BadInput
from scheduler.sim.trace import Request

Service = Literal["exponential", "fixed", "lognormal"]
Arrivals = Literal["poisson", "bursts"]

# From what to what each number may be set.
LIMITS: dict[str, tuple[float, float]] = {
    "nodes": (1, 100_000),
    "slots": (1, 10_000),
    "replicas": (1, 64),
    "refresh_ms": (10, 60_000),
    "heartbeat_ms": (10, 60_000),
    "load": (0.001, 2),
    "service_ms": (1, 3_600_000),
    "burst": (1, 100_000),
    "d": (1, 16),
    "rtt_ms": (0, 1_000),
    "jobs": (1, 10_000_000),
    "seconds": (0.01, 86_400),
    "seed": (0, 2**32),
    "input_rate": (1, 1e9),
    "output_rate": (0.1, 1e9),
}
JOBS = 20_000


@dataclass(frozen=True, slots=True)
class SimPlan:
    """One simulation. It ends after so many jobs or, where `seconds` is set, so much simulated time.

    Slots are drawn evenly between the two bounds, once for each node. With a trace the trace says when jobs come and
    how long they run; load, service, arrivals, jobs and seconds are not used.
    """

    nodes: int = 1_000
    slots: tuple[int, int] = (4, 4)
    replicas: int = 8
    refresh_ms: int = 200
    heartbeat_ms: int = 1_000
    load: float = 0.85
    service: Service = "exponential"
    service_ms: float = 1_000
    arrivals: Arrivals = "poisson"
    burst: int = 200
    d: int = 3
    rtt_ms: float = 1
    jobs: int = JOBS
    seconds: float | None = None
    trace: tuple[Request, ...] = ()
    input_rate: float = 20_000
    output_rate: float = 50
    seed: int = 1

    @property
    def warm_up_ms(self) -> float:
        """What is simulated first and not counted: one service time of a fleet that begins under load."""
        return 0 if self.trace or self.arrivals == "bursts" else self.service_ms

    @property
    def expected(self) -> int:
        """About how many jobs will come, the uncounted ones included; for progress."""
        if self.trace:
            return len(self.trace)
        rate = self.load * self.nodes * sum(self.slots) / 2 / self.service_ms
        counted = self.jobs if self.seconds is None else int(self.seconds * 1_000 * rate)
        return counted + int(rate * self.warm_up_ms)

    def stream(self, name: str) -> random.Random:
        """A generator of its own for each purpose, so that every policy meets the same jobs."""
        return random.Random(f"{self.seed}:{name}")

    def node_slots(self) -> list[int]:
        low, high = self.slots
        rng = self.stream("slots")
        return [low] * self.nodes if low == high else [rng.randint(low, high) for _ in range(self.nodes)]

    def with_values(self, **values: Any) -> "SimPlan":
        return replace(self, **values)


def option(name: str) -> str:
    return "--" + name.replace("_", "-")


def checked(name: str, value: float) -> float:
    """The number, if it is within the limits of this field; else BadInput names the option and the limits."""
    low, high = LIMITS[name]
    if not low <= value <= high:
        raise BadInput(option(name), f"must be a number from {low:,g} to {high:,.0f}")
    return value
