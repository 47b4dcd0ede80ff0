"""What a snapshot counts: each node once, each of its pools once."""

from dataclasses import replace

from scheduler.domain.ids import PoolName
from scheduler.domain.pool import Pool, Selector
from scheduler.placement.census import STATES, Census, PoolCount, census
from scheduler.placement.snapshot import Snapshot
from tests.unit.placement.fleets import fleet, node


def test_a_node_is_counted_under_the_first_obstacle_that_it_has() -> None:
    counted = census(
        fleet(
            node("a"),
            node("b", used=4),
            node("c", over="cpu", used=4),
            node("d", quarantined=True, over="cpu"),
            node("e", state="draining", quarantined=True),
            node("f", state="cordoned"),
            node("g", state="lost"),
        )
    )
    assert counted.states == dict.fromkeys(STATES, 1)


def test_slots_are_free_where_they_could_be_claimed_and_used_wherever_a_job_holds_them() -> None:
    counted = census(
        fleet(
            node("a", slots=4, used=1),
            node("b", slots=4, used=1, over="cpu"),
            node("c", slots=4, used=2, state="cordoned"),
            node("d", slots=4, used=6),
        )
    )
    assert counted.pools == {"default": PoolCount(members=4, free=3, used=1 + 1 + 2 + 6)}


def test_what_the_last_claims_saw_counts() -> None:
    snapshot = fleet(node("a", slots=4, used=1), node("b", slots=4, used=0))
    snapshot.free[snapshot.positions[node("a").id]] = 0
    snapshot.free[snapshot.positions[node("b").id]] = 1
    counted = census(snapshot)
    assert counted.pools == {"default": PoolCount(members=2, free=1, used=4 + 3)}
    assert counted.states == {"full": 1, "ready": 1}


def test_a_node_is_in_each_of_its_pools_and_a_pool_that_is_not_configured_is_none() -> None:
    empty = Pool(Selector(all=True))
    named = {PoolName(name): empty for name in ("gold", "silver", "bare")}
    snapshot = replace(fleet(node("a", pools="gold silver gone", used=1), node("b", pools="gold")), pools=named)
    assert census(snapshot).pools == {
        "gold": PoolCount(2, 7, 1), "silver": PoolCount(1, 3, 1), "bare": PoolCount(),
    }  # fmt: skip


def test_a_place_that_a_node_left_counts_nothing() -> None:
    whole = Census()
    for snapshot in (Snapshot(), fleet(node("a")), fleet(node("b", state="lost"))):
        whole.add(census(snapshot))
    assert whole.states == {"ready": 1, "lost": 1}
    assert whole.pools == {"default": PoolCount(2, 4, 0)}
