"""The room of a demand: free slots in the best pool that has any, counted, or of many nodes estimated."""

from dataclasses import replace
from random import Random

import pytest

from scheduler.domain.ids import PoolName
from scheduler.domain.pool import Pool
from scheduler.placement.eligible import compile_demand
from scheduler.placement.room import COUNTED_MAX, Room, room
from scheduler.placement.snapshot import Snapshot
from tests.unit.placement.fleets import demand, fleet, node

POOLS = {PoolName("gold"): Pool(priority=1), PoolName("default"): Pool()}


def asked(snapshot: Snapshot, wanted: str = "gpu") -> Room:
    return room(snapshot, compile_demand(snapshot, demand(wanted)), Random(5))


def test_nothing_that_offers_it_has_no_rank() -> None:
    assert asked(replace(fleet(node("a", "cpu")), pools=POOLS)) == Room(0, 0)


def test_free_slots_of_the_pool_are_counted() -> None:
    nodes = fleet(node("a", used=1), node("b", used=2), node("c", "cpu"), node("d", state="cordoned"))
    found = asked(replace(nodes, pools=POOLS))
    assert found.slots == 3 + 2
    assert found.rank > 0


def test_the_best_pool_that_has_any_is_told() -> None:
    best = node("a", pools="gold default", used=4)
    other = node("b", pools="default", used=1)
    busy = asked(replace(fleet(best, other), pools=POOLS))
    idle = asked(replace(fleet(node("a", pools="gold default"), other), pools=POOLS))
    assert (busy.slots, idle.slots) == (3, 4)
    assert 0 < idle.rank < busy.rank


def test_full_nodes_have_a_rank_and_no_slots() -> None:
    found = asked(replace(fleet(node("a", used=4)), pools=POOLS))
    assert found.slots == 0
    assert found.rank > 0


@pytest.mark.parametrize("used", [0, 3])
def test_of_many_nodes_the_sum_is_an_estimate(used: int) -> None:
    count = 4 * COUNTED_MAX
    nodes = [node(f"n{i}", used=used if i % 2 else 0) for i in range(count)]
    truth = sum(4 - each.used for each in nodes)
    assert abs(asked(replace(fleet(*nodes), pools=POOLS)).slots / truth - 1) < 0.2


def test_one_free_slot_among_many_nodes_may_be_missed_but_none_is_made_up() -> None:
    nodes = [node(f"n{i}", used=4) for i in range(2 * COUNTED_MAX)]
    assert asked(replace(fleet(*nodes), pools=POOLS)).slots == 0
