from hypothesis import given
from hypothesis import strategies as st

from scheduler.domain.ids import NodeId
from scheduler.domain.node import Node
from scheduler.placement.snapshot import Snapshot, updated
from tests.unit.placement.fleets import fleet, node


def test_an_update_leaves_the_old_snapshot_as_it_was() -> None:
    old = fleet(node("a"), node("b"))
    updated(old, [node("a", used=4)], [NodeId("b")])
    assert old.free.tolist() == [4, 4]
    assert set(old.positions) == {"a", "b"}


def test_a_node_keeps_its_position_while_it_is_known() -> None:
    old = fleet(node("a"), node("b"), node("c"))
    new = updated(old, [node("c", "cpu")], [NodeId("a")])
    assert new.positions[NodeId("c")] == old.positions[NodeId("c")]
    assert new.positions[NodeId("b")] == old.positions[NodeId("b")]


def test_the_position_of_a_removed_node_is_used_again() -> None:
    old = fleet(node("a"), node("b"))
    new = updated(updated(old, [], [NodeId("a")]), [node("c")], [])
    assert len(new.nodes) == 2
    assert new.node(new.positions[NodeId("c")]).id == "c"


def test_a_node_that_cannot_take_a_job_has_no_free_slot() -> None:
    cannot = [node("a", state="cordoned"), node("b", over="cpu"), node("c", quarantined=True), node("d", used=9)]
    assert fleet(*cannot).free.tolist() == [0, 0, 0, 0]


_NODES = st.builds(
    node,
    st.sampled_from("abcdef"),
    st.sampled_from(["gpu", "cpu", "gpu asr:zh"]),
    used=st.integers(0, 5),
    state=st.sampled_from(["ready", "cordoned", "lost"]),
)


@given(st.lists(st.tuples(st.lists(_NODES, max_size=4), st.lists(st.sampled_from("abcdef"), max_size=3)), max_size=8))
def test_a_snapshot_equals_the_fleet_it_was_told_of(steps: list[tuple[list[Node], list[str]]]) -> None:
    snapshot, truth = Snapshot(), dict[str, Node]()
    for changed, removed in steps:
        once = {n.id: n for n in changed}
        gone = [NodeId(name) for name in removed if NodeId(name) not in once]
        snapshot = updated(snapshot, once.values(), gone)
        truth = {name: n for name, n in (truth | dict(once)).items() if name not in gone}
    assert {n.id: n for n in snapshot.nodes if n is not None} == truth
    assert snapshot.ids == sorted(truth)
    assert {name: snapshot.free[at] for name, at in snapshot.positions.items()} == {
        k: n.free for k, n in truth.items()
    }
    by_shape = {shape: {snapshot.node(p).id for p in at} for shape, at in snapshot.members.items()}
    assert all(at for at in snapshot.members.values())
    for n in truth.values():
        assert n.id in by_shape[n.shape]
    assert sum(map(len, snapshot.members.values())) == len(truth)
