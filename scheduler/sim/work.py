"""When jobs come and how long they run: drawn from distributions, or read from a trace."""

import math
import random
from collections.abc import Iterator

from scheduler.sim.plan import SimPlan
from scheduler.sim.trace import service_s

# Of the logarithm of a lognormal service time: the 99th percentile is then some six times the mean.
_SIGMA = 1.0

Burst = tuple[float, list[float]]


def _served(plan: SimPlan, rng: random.Random) -> float:
    if plan.service == "exponential":
        return rng.expovariate(1 / plan.service_ms)
    if plan.service == "fixed":
        return plan.service_ms
    return rng.lognormvariate(math.log(plan.service_ms) - _SIGMA**2 / 2, _SIGMA)


def running_ms(plan: SimPlan, total_slots: int) -> list[float]:
    """What is left of each job that runs already when drawn work begins: as many as the load says."""
    rng = plan.stream("running")
    return [residual_ms(plan, rng) for _ in range(int(min(plan.load, 1) * total_slots))]


def residual_ms(plan: SimPlan, rng: random.Random) -> float:
    """What is left of a job that runs when one looks: a long job is met more often, at any point of its time."""
    if plan.service == "exponential":
        return rng.expovariate(1 / plan.service_ms)
    if plan.service == "fixed":
        return rng.random() * plan.service_ms
    return rng.random() * rng.lognormvariate(math.log(plan.service_ms) + _SIGMA**2 / 2, _SIGMA)


def bursts(plan: SimPlan, total_slots: int) -> Iterator[Burst]:
    """Instants in order, each with the service times in ms of the jobs that come then."""
    if plan.trace:
        for request in plan.trace:
            yield request.arrival_ms, [service_s(request, plan.input_rate, plan.output_rate) * 1_000]
        return
    coming, serving = plan.stream("arrivals"), plan.stream("service")
    even = plan.arrivals == "bursts"
    size = plan.burst if even else 1
    mean_ms = size * plan.service_ms / (plan.load * total_slots)
    end_ms = math.inf if plan.seconds is None else plan.warm_up_ms + plan.seconds * 1_000
    left = plan.jobs if plan.seconds is None else math.inf
    at_ms = 0.0 if even else coming.expovariate(1 / mean_ms)
    while left > 0 and at_ms < end_ms:
        count = int(min(size, left))
        yield at_ms, [_served(plan, serving) for _ in range(count)]
        left -= count if at_ms >= plan.warm_up_ms else 0
        # bursts come evenly: what is asked of them is how well one is spread
        at_ms += mean_ms if even else coming.expovariate(1 / mean_ms)
