"""Each scene in a short form: honest requests all succeed, memory is bounded, connections are let go. Times are not
judged here."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.deploy.balancers import tool
from tests.hostile.scenes import SCENES, Scene, play
from tests.hostile.stage import Stage, behind_nginx, direct

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]
# More connections than the replica may have, so that it has to let some go.
CONNECTIONS, ARRIVAL_MS = 1_000, 1_000
SHORT = {
    "slow-heads": Scene(100, {"direct": 4.0}),
    "slow-bodies": Scene(100, {"direct": 4.0}),
    "idle": Scene(2_000),
    "unread": Scene(50),
}


@pytest.fixture(scope="module")
def replica() -> Iterator[Stage]:
    with direct("any", connections=CONNECTIONS, arrival_ms=ARRIVAL_MS) as stage:
        yield stage


@pytest.fixture(scope="module")
def proxied() -> Iterator[Stage]:
    with behind_nginx("any") as stage:
        yield stage


def played(stage: Stage, way: str, name: str, request: pytest.FixtureRequest) -> None:
    scene = SHORT.get(name, SCENES[name])
    verdict = asyncio.run(play(stage, way, name, pairs=1, seconds=1, rate=40, scene=scene))
    request.node.user_properties.append(("figure", f"{name}, {way}: {'; '.join(verdict.lines())}"))
    assert verdict.faults() == []
    # every call of both halves was made: 40 jobs, placed and finished
    assert [len(calm.took_s) for calm in verdict.pairs[0]] == [80, 80]


@pytest.mark.parametrize("name", SCENES)
def test_honest_clients_of_a_replica_are_served_under_attack(
    name: str, replica: Stage, request: pytest.FixtureRequest
) -> None:
    played(replica, "direct", name, request)


@pytest.mark.skipif(tool("nginx") is None, reason="nginx is not installed")
@pytest.mark.parametrize("name", ["idle", "oversized"])
def test_honest_clients_behind_nginx_are_served_under_attack(
    name: str, proxied: Stage, request: pytest.FixtureRequest
) -> None:
    played(proxied, "nginx", name, request)
