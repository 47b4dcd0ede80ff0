import random

from hypothesis import given
from hypothesis import strategies as st

from scheduler.sim.truth import Truth

ACTS = st.lists(st.tuples(st.sampled_from(["take", "give", "beat"]), st.integers(0, 4)), max_size=60)


def truth(*slots: int) -> Truth:
    return Truth(list(slots), random.Random(1))


@given(ACTS)
def test_the_free_nodes_and_the_emptiest_are_what_a_scan_finds(acts: list[tuple[str, int]]) -> None:
    fleet = truth(1, 2, 2, 3, 4)
    for act, node in acts:
        if act == "take" and fleet.used[node] < fleet.slots[node]:
            fleet.take(node)
        elif act == "give" and fleet.used[node]:
            fleet.give(node)
        elif act == "beat":
            fleet.heartbeat(node)
        free = [i for i in range(5) if fleet.used[i] < fleet.slots[i]]
        assert fleet.busy == sum(fleet.used)
        assert fleet.has_free == bool(free)
        look, emptiest = fleet.look(), fleet.emptiest()
        assert (look is None) == (emptiest is None) == (not free)
        if look is not None and emptiest is not None:
            assert look in free
            assert fleet.load[emptiest] == min(fleet.load)


def test_a_change_is_material_at_full_and_free_only() -> None:
    fleet = truth(2, 2)
    fleet.take(0)
    assert list(fleet.changed_since(0)) == []
    fleet.take(0)
    assert list(fleet.changed_since(0)) == [0]
    seen = fleet.version
    fleet.give(0)
    assert list(fleet.changed_since(seen)) == [0]
    seen = fleet.version
    fleet.give(0)
    assert list(fleet.changed_since(seen)) == []


def test_a_heartbeat_tells_of_a_share_that_moved_by_a_tenth_once() -> None:
    fleet = truth(20)
    fleet.take(0)
    fleet.heartbeat(0)
    assert fleet.version == 0
    fleet.take(0)
    fleet.heartbeat(0)
    fleet.heartbeat(0)
    assert fleet.version == 1


def test_each_changed_node_is_told_once_the_latest_first() -> None:
    fleet = truth(1, 1)
    for act in (fleet.take, fleet.give, fleet.take):
        act(0)
    fleet.take(1)
    assert list(fleet.changed_since(0)) == [1, 0]
