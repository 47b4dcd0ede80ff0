import pytest

from scheduler.domain.ids import NodeId, PoolName
from scheduler.domain.node import Node
from scheduler.domain.reason import Reason
from scheduler.placement.filters import Wanted, node_obstacle, shape_obstacle
from tests.unit.placement.fleets import demand, node


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (node("a"), None),
        (node("a", state="lost"), Reason.LOST),
        (node("a", state="cordoned"), Reason.CORDONED),
        (node("a", state="draining"), Reason.DRAINING),
        (node("a", quarantined=True), Reason.QUARANTINED),
        (node("a", over="mem"), Reason.OVERLOADED),
        (node("a", used=4), Reason.FULL),
        (node("a", used=9), Reason.FULL),
        (node("a", state="lost", used=4, over="cpu"), Reason.LOST),
        (node("excluded", used=4), Reason.EXCLUDED),
    ],
)
def test_a_node_is_kept_away_by_the_first_rule_it_fails(candidate: Node, reason: Reason | None) -> None:
    assert node_obstacle(candidate, {NodeId("excluded")}) is reason


@pytest.mark.parametrize(
    ("requires", "pools", "reason"),
    [
        (("asr:zh",), "default", None),
        (("asr",), "default", None),
        (("asr:zh", "gpu"), "default", None),
        (("asr:en",), "default", Reason.MISSING_CAPABILITY),
        (("asr:zh", "tts:en"), "default", Reason.MISSING_CAPABILITY),
        (("asr:zh",), "gold", Reason.NOT_IN_POOL),
    ],
)
def test_a_shape_must_offer_all_and_be_in_a_pool(
    requires: tuple[str, ...], pools: str, reason: Reason | None
) -> None:
    wanted = Wanted(demand(*requires), (PoolName("default"),), frozenset({PoolName("default"), PoolName("gold")}))
    assert shape_obstacle(wanted, node("a", "asr:zh gpu", pools=pools).shape) is reason
