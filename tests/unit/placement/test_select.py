from collections import Counter
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from scheduler.domain.ids import NodeId, PoolName
from scheduler.domain.pool import Pool
from scheduler.domain.reason import Reason, RefusalClass
from scheduler.placement.eligible import Compiled, compile_demand
from scheduler.placement.refusal import breakdown
from scheduler.placement.select import select
from scheduler.placement.snapshot import Snapshot
from tests.unit.placement.fleets import demand, fleet, node

NOBODY: frozenset[NodeId] = frozenset()


@given(
    used=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    d=st.integers(1, 6),
    excluded=st.sets(st.integers(0, 59), max_size=10),
    seed=st.integers(0, 1_000),
)
def test_candidates_are_distinct_free_and_not_excluded(
    used: list[int], d: int, excluded: set[int], seed: int
) -> None:
    snapshot = fleet(*(node(f"n{i:02}", used=u) for i, u in enumerate(used)))
    exclude = frozenset(NodeId(f"n{i:02}") for i in excluded)
    eligible = compile_demand(snapshot, demand("gpu"))
    found = select(snapshot, eligible, d, exclude, Random(seed))
    able = {i for i, u in enumerate(used) if u < 4} - excluded
    assert len(set(found.positions)) == len(found.positions)
    assert not {snapshot.node(p).id for p in found.positions} & exclude
    if able:
        assert set(found.positions) <= able
        assert len(found.positions) == min(d, len(able))
    else:
        assert len(found.positions) <= d


def test_the_draw_follows_the_free_slots() -> None:
    snapshot = fleet(*(node(f"n{i}", slots=100, used=0 if i < 20 else 75) for i in range(40)))
    eligible = compile_demand(snapshot, demand("gpu"))
    rng, seen = Random(1), Counter[bool]()
    for _ in range(4_000):
        seen[select(snapshot, eligible, 1, NOBODY, rng).positions[0] < 20] += 1
    assert 0.77 < seen[True] / 4_000 < 0.83  # 20 x 100 of 20 x 100 + 20 x 25 free slots


def test_the_last_free_node_of_many_is_found() -> None:
    snapshot = fleet(*(node(f"n{i}", used=4 if i != 33 else 0) for i in range(60)))
    eligible = compile_demand(snapshot, demand("gpu"))
    assert all(select(snapshot, eligible, 3, NOBODY, Random(s)).positions == [33] for s in range(50))


def test_where_nothing_seems_free_redis_is_shown_some_nodes_anyway() -> None:
    snapshot = fleet(node("a", used=4), node("b", used=4))
    found = select(snapshot, compile_demand(snapshot, demand("gpu")), 3, NOBODY, Random(0))
    assert sorted(found.positions) == [0, 1]


def test_a_compiled_demand_is_kept_until_the_structure_changes() -> None:
    compiled, snapshot = Compiled(capacity=2), fleet(node("a"))
    first = compiled.get(snapshot, demand("gpu"))
    assert compiled.get(snapshot, demand("gpu")) is first
    compiled.get(snapshot, demand("asr"))
    compiled.get(snapshot, demand("tts"))
    assert compiled.get(snapshot, demand("gpu")) is not first


def test_every_node_of_the_tenants_pools_is_counted_once_under_its_first_obstacle() -> None:
    snapshot = fleet(
        node("a", used=4), node("b", "cpu"), node("c", state="cordoned"), node("d", over="cpu"), node("e", pools="x")
    )
    found = breakdown(snapshot, compile_demand(snapshot, demand("gpu")), NOBODY)
    assert found.refusal is RefusalClass.OVERLOADED
    assert found.reasons == {
        Reason.FULL: 1,
        Reason.MISSING_CAPABILITY: 1,
        Reason.CORDONED: 1,
        Reason.OVERLOADED: 1,
    }


def test_a_node_of_a_pool_that_was_not_asked_for_is_counted_as_such() -> None:
    pools = {PoolName("default"): Pool(), PoolName("x"): Pool()}
    snapshot = replace(fleet(node("a", pools="default"), node("e", pools="x")), pools=pools)
    found = breakdown(snapshot, compile_demand(snapshot, demand("other", pool="x")), NOBODY)
    assert found.reasons == {Reason.NOT_IN_POOL: 1, Reason.MISSING_CAPABILITY: 1}


def packed(*used: int, d: int | None = None) -> Snapshot:
    pools = {PoolName("default"): Pool(strategy="pack", d=d)}
    return replace(fleet(*(node(f"n{i:03}", used=u) for i, u in enumerate(used))), pools=pools)


def test_a_pool_that_packs_offers_its_fullest_nodes_fullest_first() -> None:
    snapshot = packed(0, 3, 4, 1, 2)
    found = select(snapshot, compile_demand(snapshot, demand("gpu")), 3, NOBODY, Random(0))
    assert found.positions == [1, 4, 3]
    skipping = select(snapshot, compile_demand(snapshot, demand("gpu")), 3, frozenset({NodeId("n001")}), Random(0))
    assert skipping.positions == [4, 3, 0]


def test_draws_of_a_large_pool_that_packs_come_to_know_its_fullest_nodes() -> None:
    snapshot = packed(*(3 if i in {77, 450} else 2 if i == 200 else 0 for i in range(500)))
    eligible, rng = compile_demand(snapshot, demand("gpu")), Random(3)
    for _ in range(400):
        drawn = select(snapshot, eligible, 3, NOBODY, rng)
    assert set(drawn.positions[:2]) == {77, 450}
    assert drawn.positions[2] == 200


def test_a_pool_may_say_how_many_candidates_it_wants() -> None:
    snapshot = packed(*([0] * 40), d=5)
    eligible = compile_demand(snapshot, demand("gpu"))
    assert len(select(snapshot, eligible, 3, NOBODY, Random(0)).positions) == 5


def test_the_three_classes_of_refusal() -> None:
    def refusal(*nodes: object) -> RefusalClass:
        snapshot = fleet(*nodes)  # type: ignore[arg-type]
        return breakdown(snapshot, compile_demand(snapshot, demand("gpu")), frozenset({NodeId("x")})).refusal

    assert refusal(node("a", "cpu")) is RefusalClass.IMPOSSIBLE
    assert refusal(node("a", state="lost"), node("b", state="draining")) is RefusalClass.UNAVAILABLE
    assert refusal(node("x")) is RefusalClass.UNAVAILABLE
    assert refusal(node("a", state="lost"), node("b", used=4)) is RefusalClass.OVERLOADED
