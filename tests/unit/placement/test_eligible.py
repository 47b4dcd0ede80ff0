from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from scheduler.domain.ids import NodeId, PoolName
from scheduler.domain.node import Node
from scheduler.domain.pool import Pool
from scheduler.placement.eligible import Compiled, Eligible, compile_demand, followed
from scheduler.placement.snapshot import MOVES_KEPT, Snapshot, updated
from tests.unit.placement.fleets import demand, fleet, node

POOLS = {PoolName("gold"): Pool(priority=1), PoolName("default"): Pool()}
_NODES = st.builds(
    node,
    st.sampled_from("abcdef"),
    st.sampled_from(["gpu", "cpu", "gpu asr:zh"]),
    pools=st.sampled_from(["gold", "default", "gold default", "other"]),
    slots=st.integers(1, 6),
)
_STEPS = st.lists(
    st.tuples(st.lists(_NODES, max_size=4), st.lists(st.sampled_from("abcdef"), max_size=2)), max_size=10
)


def told(eligible: Eligible) -> list[tuple[str, int, set[int]]]:
    return [(tier.pool, tier.rank, set(tier.positions)) for tier in eligible.tiers]


@given(steps=_STEPS, asked=st.sampled_from(["gpu", "asr:zh", "cpu", "none"]))
def test_a_demand_that_follows_equals_one_compiled_anew(
    steps: list[tuple[list[Node], list[str]]], asked: str
) -> None:
    snapshot = replace(Snapshot(), pools=POOLS)
    eligible = compile_demand(snapshot, demand(asked))
    for changed, removed in steps:
        once = {n.id: n for n in changed}
        gone = [NodeId(name) for name in removed if NodeId(name) not in once]
        snapshot = updated(snapshot, once.values(), gone)
        eligible = followed(eligible, snapshot)
        anew = compile_demand(snapshot, demand(asked))
        assert told(eligible) == told(anew)
        assert eligible.ranks == anew.ranks
        for tier in eligible.tiers:
            assert tier.ceiling >= max(snapshot.node(position).slots for position in tier.positions)


def test_a_demand_that_fell_too_far_behind_is_compiled_anew() -> None:
    snapshot = fleet(node("a"))
    eligible = compile_demand(snapshot, demand("gpu"))
    for turn in range(MOVES_KEPT + 1):
        snapshot = updated(snapshot, [node("b", "gpu" if turn % 2 else "cpu")], [])
    assert snapshot.moved_since(eligible.stamp) is None
    assert told(followed(eligible, snapshot)) == told(compile_demand(snapshot, demand("gpu")))


def test_a_snapshot_that_was_filled_anew_is_not_taken_for_a_later_one() -> None:
    compiled = Compiled()
    first = compiled.get(fleet(node("a"), node("b")), demand("gpu"))
    again = compiled.get(fleet(node("b")), demand("gpu"))
    assert [set(tier.positions) for tier in first.tiers] == [{0, 1}]
    assert [set(tier.positions) for tier in again.tiers] == [{0}]


def test_another_configuration_is_another_order_of_pools() -> None:
    snapshot = replace(fleet(node("a", pools="gold default")), pools=POOLS)
    compiled = Compiled()
    assert compiled.get(snapshot, demand("gpu")).tiers[0].pool == "gold"
    changed = replace(snapshot, pools={PoolName("default"): Pool()})
    assert compiled.get(changed, demand("gpu")).tiers[0].pool == "default"


def test_a_ceiling_falls_again_with_the_slots_that_raised_it() -> None:
    snapshot, compiled = fleet(node("a"), node("b")), Compiled()
    for slots, ceiling in ((1_000_000, 1_000_000), (4, 4)):
        snapshot = updated(snapshot, [node("a", slots=slots)], [])
        assert [tier.ceiling for tier in compiled.get(snapshot, demand("gpu")).tiers] == [ceiling]


def test_load_alone_moves_no_demand() -> None:
    snapshot, compiled = fleet(node("a"), node("b")), Compiled()
    first = compiled.get(snapshot, demand("gpu"))
    assert compiled.get(updated(snapshot, [node("a", used=3)], []), demand("gpu")) is first
