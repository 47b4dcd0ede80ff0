import statistics

import pytest

from scheduler.sim.plan import Service, SimPlan
from scheduler.sim.trace import Request
from scheduler.sim.work import bursts, residual_ms


@pytest.mark.parametrize("service", ["exponential", "fixed", "lognormal"])
def test_the_work_that_comes_is_the_load_that_was_asked_for(service: Service) -> None:
    plan = SimPlan(service=service, load=0.5, jobs=20_000)
    work = list(bursts(plan, 100))
    served_ms = statistics.fmean(ms for _, services in work for ms in services)
    assert served_ms == pytest.approx(plan.service_ms, rel=0.05)
    assert len(work) * served_ms / work[-1][0] == pytest.approx(50, rel=0.07)


@pytest.mark.parametrize(("service", "mean"), [("exponential", 1_000), ("fixed", 500), ("lognormal", 1_359)])
def test_what_is_left_of_a_running_job_is_half_its_square_over_its_mean(service: Service, mean: float) -> None:
    plan = SimPlan(service=service)
    rng = plan.stream("fill")
    assert statistics.fmean(residual_ms(plan, rng) for _ in range(40_000)) == pytest.approx(mean, rel=0.05)


def test_so_many_jobs_come_after_the_warm_up() -> None:
    plan = SimPlan(jobs=500)
    assert sum(at_ms >= plan.warm_up_ms for at_ms, _ in bursts(plan, 4_000)) == 500


def test_jobs_come_for_so_many_seconds_after_the_warm_up() -> None:
    plan = SimPlan(seconds=2)
    times = [at_ms for at_ms, _ in bursts(plan, 100)]
    assert 2_900 < times[-1] < 3_000


def test_bursts_are_even_and_the_last_one_is_cut() -> None:
    plan = SimPlan(arrivals="bursts", burst=200, load=0.5, jobs=500)
    told = [(at_ms, len(services)) for at_ms, services in bursts(plan, 400)]
    assert told == [(0, 200), (1_000, 200), (2_000, 100)]


def test_a_trace_says_when_jobs_come_and_how_long_they_run() -> None:
    plan = SimPlan(trace=(Request(5, "s", 20_000, 50), Request(7, "", 0, 25)))
    assert list(bursts(plan, 8)) == [(5, [2_000]), (7, [500])]
