"""Each scene in a short form: no request fails in the end, no job is there twice, every one that is known ends."""

from typing import cast

import pytest

from scheduler.dev.server import Prefer
from tests.failover.__main__ import run_scene
from tests.failover.stage import SCENES
from tests.failover.verdict import Verdict
from tests.integration.store.conftest import KINDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
each_kind = pytest.mark.parametrize("kind", KINDS)
RATE, BEFORE_S, AFTER_S = 60, 2, 4


def played(name: str, kind: str, request: pytest.FixtureRequest) -> Verdict:
    told, verdict = run_scene(name, cast("Prefer", kind), RATE, BEFORE_S, AFTER_S)
    request.node.user_properties.append(("figure", f"{name}, {kind}: {told}: {'; '.join(verdict.lines())}"))
    # the load was there before the event and after it, or nothing is shown
    assert verdict.requests > RATE * (BEFORE_S + AFTER_S) * 0.8
    assert verdict.violations(may_lose=SCENES[name].may_lose) == 0, verdict.lines()
    return verdict


@each_kind
def test_a_killed_primary_of_a_cluster_costs_no_request_and_doubles_no_job(
    kind: str, request: pytest.FixtureRequest
) -> None:
    verdict = played("cluster", kind, request)
    assert verdict.sent_again > 0, "the primary was really away"


@each_kind
def test_a_killed_primary_under_sentinel_costs_no_request_and_doubles_no_job(
    kind: str, request: pytest.FixtureRequest
) -> None:
    verdict = played("sentinel", kind, request)
    assert verdict.sent_again > 0, "the primary was really away"


@each_kind
def test_a_planned_failover_of_a_cluster_loses_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    verdict = played("cluster-planned", kind, request)
    assert (verdict.lost, verdict.again) == (0, 0)


@each_kind
def test_a_planned_failover_under_sentinel_loses_nothing_as_operations_says(
    kind: str, request: pytest.FixtureRequest
) -> None:
    verdict = played("sentinel-planned", kind, request)
    assert verdict.lost == 0


@each_kind
def test_a_shard_that_moves_to_another_primary_loses_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    verdict = played("move", kind, request)
    assert (verdict.lost, verdict.again) == (0, 0)
