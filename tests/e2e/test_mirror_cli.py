"""`fleet mirror diff` on a live replica: at rest nothing differs, and what is changed behind its back is told."""

import json
from collections.abc import Callable

import httpx
import pytest
import redis

from scheduler.cli.mirror import differences
from scheduler.domain.ids import NodeId
from scheduler.http.answers import MirroredNode
from scheduler.store.truths import NodeTruth
from tests.conftest import divide, looking
from tests.e2e.conftest import P, Replicas, Run, fcall, free_ports_in_a_row, place, register, wait_until
from tests.sharded import Shards

pytestmark = pytest.mark.one_shard("changes the keys of one shard by hand")


def settled(http: httpx.Client, nodes: int) -> Callable[[], bool]:
    return lambda: len(http.get("/v1/mirror").json()["nodes"]) == nodes


def test_at_rest_nothing_differs(fleet: Run, shards: Shards, http: httpx.Client) -> None:
    for number in range(5):
        register(shards, f"n{number}", "asr:zh gpu", slots=4)
    fcall(shards, "node_mark", "n1", "cordon")
    wait_until(settled(http, 5), "the replica knows the nodes")
    assert place(http, "gpu").status_code == 201
    url = str(http.base_url)
    told = json.loads(fleet("mirror", "diff", "--url", url, "--json").stdout)
    assert (told["nodes"], told["differences"]) == (5, [])
    assert fleet("mirror", "diff", "--url", url).stdout.startswith("5 nodes, no difference; ")


def test_what_a_replica_cannot_have_heard_of_is_told(
    fleet: Run, client: redis.Redis, shards: Shards, http: httpx.Client
) -> None:
    """No function makes such changes: these are made behind the versions by which mirrors follow."""
    for number in range(4):
        register(shards, f"n{number}", "gpu", slots=8)
    wait_until(settled(http, 4), "the replica knows the nodes")
    client.hset(f"{P}:node:n0", mapping={"state": "cordoned", "slots": 9, "structure": 10**6})
    client.hset(f"{P}:node:n1", mapping={"capabilities": "asr:zh", "pools": "gold"})
    client.zrem(f"{P}:nodes", "n2")
    client.zadd(f"{P}:node:n3:leases", {f"j{number}": 10**15 for number in range(7)})
    client.copy(f"{P}:node:n3", f"{P}:node:n4")
    client.zadd(f"{P}:nodes", {"n4": 10**15})
    done = fleet("mirror", "diff", "--url", str(http.base_url), "--json", status=1)
    told = json.loads(done.stdout)
    found = [tuple(line.values()) for line in told["differences"]]
    assert found == [
        ("n0", "state", "ready", "cordoned"),
        ("n0", "slots", "8", "9"),
        ("n0", "structure", found[2][2], "1000000"),
        ("n1", "offered", "gpu", "asr asr:zh"),
        ("n1", "pools", "default", "gold"),
        ("n2", "extra", "", ""),
        ("n3", "free", "8", "1"),
        ("n4", "missing", "", ""),
    ]
    assert told["looks"] == 3
    shown = fleet("mirror", "diff", "--url", str(http.base_url), "--looks", "1", status=1).stdout.splitlines()
    assert shown[0].split() == ["node", "what", "replica", "redis"]
    assert shown[-1] == "8 differences in 4 nodes, the same in 1 looks"


def test_pages_and_shards_come_together(fleet: Run, client: redis.Redis, replicas: Replicas) -> None:
    tags, placed = divide(client, 3), 450
    with looking(client) as shards:
        for number in range(placed):
            register(shards, f"n{number:03}", "gpu", slots=1)
    with httpx.Client(base_url=replicas(1)[0]) as http:
        wait_until(lambda: len(http.get("/v1/mirror?limit=1000").json()["nodes"]) == placed, "all are known")
        page = http.get("/v1/mirror?limit=3&after=n100").json()
        assert [node["id"] for node in page["nodes"]] == ["n101", "n102", "n103"]
        assert (page["cursor"], sorted(page["shards"])) == ("n103", sorted(tags))
        told = json.loads(fleet("mirror", "diff", "--url", str(http.base_url), "--json").stdout)
    assert (told["nodes"], told["differences"]) == (placed, [])


def test_a_replica_that_does_not_answer_is_status_1(fleet: Run) -> None:
    done = fleet("mirror", "diff", "--url", f"http://127.0.0.1:{free_ports_in_a_row(1)}", status=1)
    assert "The replica does not answer as it should" in done.stderr


@pytest.mark.parametrize(
    ("free", "tolerance", "differs"), [(4, 0.25, False), (3, 0.25, True), (5, 0, False), (4, 0, True)]
)
def test_free_slots_may_differ_a_little(free: int, tolerance: float, differs: bool) -> None:  # noqa: FBT001
    mine = MirroredNode("n", "ready", 8, free, "1", [], [], "", quarantined=False)
    true = NodeTruth("ready", 8, 6, "1", frozenset(), frozenset())
    found = list(differences({NodeId("n"): mine}, {NodeId("n"): true}, tolerance))
    assert bool(found) == differs
