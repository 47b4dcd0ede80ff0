from scheduler.sim.plan import SimPlan
from scheduler.sim.sweep import Sweep, label

SMALL = SimPlan(nodes=20, jobs=100)


def silent(policy: str, decided: int, expected: int) -> None:
    """Nobody watches."""


def test_every_policy_is_simulated_at_every_combination() -> None:
    sweep = Sweep(SMALL, ("ours", "random"), {"nodes": (20, 40), "d": (1, 2, 3), "replicas": (4,)})
    outcomes = list(sweep.run(silent))
    assert len(outcomes) == sweep.runs == 12
    assert [(o.policy, o.nodes, o.d) for o in outcomes[:4]] == [
        ("ours", 20, 1),
        ("random", 20, 1),
        ("ours", 20, 2),
        ("random", 20, 2),
    ]
    assert {o.replicas for o in outcomes} == {4}
    assert sweep.varied == ["d", "nodes"]


def test_what_makes_no_difference_is_told_for_each_value() -> None:
    sweep = Sweep(SMALL, ("random",), {"d": (1, 5), "refresh_ms": (100, 900)})
    outcomes = list(sweep.run(silent))
    assert [(o.refresh_ms, o.d) for o in outcomes] == [(100, 1), (100, 5), (900, 1), (900, 5)]
    assert len({o.placed for o in outcomes}) == 1


def test_a_label_names_fields_as_people_do() -> None:
    (outcome,) = Sweep(SMALL, ("random",), {"refresh_ms": (1_000,)}).run(silent)
    assert label(outcome, ["refresh_ms", "nodes"]) == "refresh ms 1,000, nodes 20"
