import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.sim.outcome import Outcome
from scheduler.sim.plan import Arrivals, Service, SimPlan
from scheduler.sim.policies import POLICIES
from scheduler.sim.simulation import Simulation
from scheduler.sim.trace import Request

# Snapshots are 0.2 job lengths old at most; the load is that of a busy fleet.
USUAL = SimPlan(nodes=300, slots=(8, 8), jobs=4_000)


def simulated(policy: str, plan: SimPlan = USUAL) -> Outcome:
    return Simulation(plan, policy).run()


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_outcome_and_another_one_another(policy: str) -> None:
    plan = SimPlan(nodes=50, jobs=400, load=0.95)
    assert simulated(policy, plan) == simulated(policy, plan)
    assert simulated(policy, plan) != simulated(policy, plan.with_values(seed=2, load=0.94))


@pytest.mark.parametrize("policy", ["ours", "omniscient"])
@given(
    nodes=st.integers(1, 30),
    low=st.integers(1, 4),
    more=st.integers(0, 4),
    replicas=st.integers(1, 5),
    refresh_ms=st.sampled_from([10, 200, 5_000]),
    load=st.sampled_from([0.5, 0.98, 1.5]),
    service=st.sampled_from(["exponential", "fixed", "lognormal"]),
    arrivals=st.sampled_from(["poisson", "bursts"]),
    d=st.integers(1, 4),
    rtt_ms=st.sampled_from([0, 1, 50]),
    seed=st.integers(0, 1_000),
)
@settings(max_examples=40, deadline=None)
def test_nobody_is_refused_while_a_slot_is_free(
    policy: str,
    nodes: int,
    low: int,
    more: int,
    replicas: int,
    refresh_ms: int,
    load: float,
    service: Service,
    arrivals: Arrivals,
    d: int,
    rtt_ms: float,
    seed: int,
) -> None:
    plan = SimPlan(
        nodes=nodes,
        slots=(low, low + more),
        replicas=replicas,
        refresh_ms=refresh_ms,
        load=load,
        service=service,
        arrivals=arrivals,
        burst=20,
        d=d,
        rtt_ms=rtt_ms,
        jobs=120,
        seed=seed,
    )
    outcome = simulated(policy, plan)
    assert outcome.refused_in_vain == 0
    assert outcome.placed + outcome.refused == outcome.requests == 120
    assert outcome.round_trips in {None, 1}


def test_ours_has_hardly_a_conflict_where_the_least_loaded_of_a_cache_has_many() -> None:
    ours, herd, two = simulated("ours"), simulated("least-loaded"), simulated("two-choices")
    assert ours.conflicts_percent < 1
    assert herd.conflicts_percent > 30
    assert ours.conflicts_percent < two.conflicts_percent < herd.conflicts_percent
    assert herd.refused_in_vain > 0


def test_more_candidates_and_fresher_snapshots_make_fewer_conflicts() -> None:
    plan = USUAL.with_values(slots=(4, 4))
    conflicts = [simulated("ours", plan.with_values(d=d)).conflicts_percent for d in (1, 2, 3)]
    assert conflicts == sorted(conflicts, reverse=True)
    stale = simulated("ours", plan.with_values(refresh_ms=1_000)).conflicts_percent
    assert stale > conflicts[-1]


def test_sessions_that_come_at_once_are_spread_as_by_one_who_knows_all() -> None:
    plan = SimPlan(nodes=22, slots=(20, 20), replicas=16, load=0.005, arrivals="bursts", burst=200, jobs=2_000)
    ours, random, best = (simulated(policy, plan) for policy in ("ours", "random", "omniscient"))
    assert best.hottest_to_mean == pytest.approx(1.1)
    assert ours.hottest_to_mean == pytest.approx(1.1, abs=0.02)
    assert random.hottest_to_mean is not None
    assert random.hottest_to_mean > 1.4


def test_a_full_fleet_refuses_and_that_is_neither_in_vain_nor_a_conflict() -> None:
    plan = SimPlan(nodes=1, slots=(1, 1), arrivals="bursts", burst=3, jobs=3)
    for policy in POLICIES:
        outcome = simulated(policy, plan)
        assert (outcome.placed, outcome.refused, outcome.refused_in_vain) == (1, 2, 0), policy
        assert outcome.conflicts_percent == 0


def test_each_try_is_a_round_trip_that_is_waited_for() -> None:
    outcome = simulated("sample-20", USUAL.with_values(rtt_ms=5))
    assert outcome.round_trips is not None
    assert outcome.round_trips > 1
    assert outcome.wait_p50_ms == 5
    assert outcome.wait_p99_ms is not None
    assert outcome.wait_p99_ms > 5


def test_a_trace_is_played_whole_on_an_idle_fleet() -> None:
    trace = tuple(Request(i * 10, f"s{i}", 2_000, 5) for i in range(60))
    outcome = simulated("ours", SimPlan(nodes=3, slots=(2, 2), trace=trace))
    assert outcome.requests == 60
    # each runs for 200 ms, so that twenty would run at once where there are six slots
    assert outcome.placed == 18
    assert outcome.refused_in_vain == 0


def test_progress_is_told_on_the_way() -> None:
    told: list[int] = []
    Simulation(SimPlan(nodes=100, jobs=1_000), "random", told.append).run()
    assert told[:2] == [500, 1_000]
