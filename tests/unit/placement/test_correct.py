from dataclasses import replace

from scheduler.domain.ids import NodeId
from scheduler.placement.correct import correct
from scheduler.placement.snapshot import updated
from tests.unit.placement.fleets import fleet, node

A, B, C = (node(name) for name in "abc")


def test_true_loads_and_the_slot_just_taken_are_written_over_the_snapshots() -> None:
    snapshot = fleet(A, B, C)
    correct(snapshot, snapshot, [0, 1], [1, 3], NodeId("b"))
    assert snapshot.free.tolist() == [3, 0, 4]


def test_an_unfit_node_seems_full_until_the_mirror_says_otherwise() -> None:
    snapshot = fleet(A, B)
    correct(snapshot, snapshot, [1], [-1], None)
    assert snapshot.free.tolist() == [4, 0]


def test_a_node_is_found_by_its_id_in_a_later_snapshot() -> None:
    shown = fleet(A, B)
    later = updated(replace(shown, version=1), [C], [NodeId("a")])
    correct(shown, later, [0, 1], [2, 2], NodeId("a"))
    assert later.free[later.positions[NodeId("b")]] == 2
    assert later.free[later.positions[NodeId("c")]] == 4


def test_that_a_node_was_unfit_is_no_news_for_a_later_snapshot() -> None:
    shown = fleet(A, B)
    later = updated(shown, [node("b", used=1)], [])
    correct(shown, later, [1], [-1], None)
    assert later.free.tolist() == [4, 3]


def test_what_was_cut_from_an_answer_stays_as_it_is() -> None:
    snapshot = fleet(A, B)
    correct(snapshot, snapshot, [0, 1], [2], None)
    assert snapshot.free.tolist() == [2, 4]
