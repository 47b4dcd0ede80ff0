"""The routes of nodes and of the cluster."""

import httpx
import pytest

from tests.integration.http.conftest import Speaker
from tests.sharded import Shards

JOB = {"requires": ["asr:zh"]}


async def test_a_node_registers_and_is_told_as_it_stands(speak: Speaker) -> None:
    body = {
        "endpoint": "http://n1:9000",
        "slots": 4,
        "capabilities": ["asr:zh", "gpu"],
        "labels": {"zone": "a", "tier": "gold"},
        "cpu": 12.5,
        "mem_max": 90,
    }
    told = await speak("PUT", "/v1/nodes/n1", body)
    assert (told.status, told.kind) == (201, speak.kind)
    assert told.body["outcome"] == "registered"
    assert told.body["pools"] == ["default"]
    found = await speak("GET", "/v1/nodes/n1")
    assert (found.status, found.kind) == (200, speak.kind)
    node = found.body["node"]
    assert {name: node[name] for name in ("id", "state", "slots", "used")} == {
        "id": "n1",
        "state": "ready",
        "slots": 4,
        "used": 0,
    }
    assert node["labels"] == body["labels"]
    assert (sorted(node["capabilities"]), node["pools"]) == (["asr:zh", "gpu"], ["default"])
    assert (node["cpu"], node["gpu"], node["mem"]) == (12.5, 0, 0)
    assert node["incarnation"] == told.body["incarnation"]


async def test_nodes_are_paged_by_id_with_their_true_use(speak: Speaker) -> None:
    names = [f"n{number:02}" for number in range(7)]
    for name in reversed(names):
        await speak.register(name, slots=1)
    await speak("POST", "/v1/jobs", JOB)
    seen, after, pages = [], "", 0
    while True:
        told = await speak("GET", f"/v1/nodes?limit=3&after={after}")
        assert (told.status, told.kind) == (200, speak.kind)
        seen += told.body["nodes"]
        pages += 1
        if told.body["cursor"] is None:
            break
        after = told.body["cursor"]
    assert pages == 3
    assert [node["id"] for node in seen] == names
    assert sum(node["used"] for node in seen) == 1


async def test_no_nodes_are_an_empty_page(speak: Speaker) -> None:
    assert (await speak("GET", "/v1/nodes")).body == {"nodes": [], "cursor": None}


async def test_a_heartbeat_reports_load_and_brings_orders_back(speak: Speaker) -> None:
    incarnation = await speak.register("n1")
    path = "/v1/nodes/n1/heartbeat"
    body = {"incarnation": incarnation, "cpu": 41, "running": [{"job": "stray", "fence": 5}]}
    told = await speak("POST", path, body)
    assert (told.status, told.kind) == (200, speak.kind)
    assert told.body == {
        "outcome": "ok",
        "ttl_ms": 60_000,
        "cancel": [{"job": "stray", "fence": 5}],
        "drain_ms": None,
    }
    assert (await speak("GET", "/v1/nodes/n1")).body["node"]["cpu"] == 41
    await speak("POST", "/v1/nodes/n1/drain", {"drain_ms": 5_000})
    assert 0 < (await speak("POST", path, {"incarnation": incarnation})).body["drain_ms"] <= 5_000


async def test_a_heartbeat_may_change_slots_capabilities_and_labels(speak: Speaker) -> None:
    incarnation = await speak.register("n1")
    change = {"incarnation": incarnation, "slots": 9, "capabilities": ["tts:en"], "labels": {"zone": "b"}}
    assert (await speak("POST", "/v1/nodes/n1/heartbeat", change)).status == 200
    node = (await speak("GET", "/v1/nodes/n1")).body["node"]
    assert (node["slots"], node["capabilities"], node["labels"]) == (9, ["tts:en"], {"zone": "b"})


async def test_a_heartbeat_of_an_older_incarnation_is_fenced(speak: Speaker) -> None:
    old = await speak.register("n1")
    new = await speak.register("n1")
    await speak.refused("POST", "/v1/nodes/n1/heartbeat", {"incarnation": old}, 409, "incarnation")
    assert (await speak("POST", "/v1/nodes/n1/heartbeat", {"incarnation": new})).status == 200


async def test_cordon_uncordon_and_drain_set_the_state(speak: Speaker) -> None:
    await speak.register("n1")
    for verb, state in (("cordon", "cordoned"), ("uncordon", "ready"), ("drain", "draining"), ("uncordon", "ready")):
        told = await speak("POST", f"/v1/nodes/n1/{verb}")
        assert (told.status, told.kind) == (200, speak.kind)
        assert told.body == {"outcome": "marked", "state": state}
        assert (await speak("GET", "/v1/nodes/n1")).body["node"]["state"] == state


async def test_a_cordoned_node_takes_no_job_from_the_next_claim_on(speak: Speaker) -> None:
    await speak.register("n1")
    await speak.register("n2")
    await speak.followed()
    await speak("POST", "/v1/nodes/n1/cordon")
    nodes = {(await speak("POST", "/v1/jobs", JOB)).body["job"]["node"]["id"] for _ in range(4)}
    assert nodes == {"n2"}


async def test_a_removed_node_is_gone(speak: Speaker, shards: Shards) -> None:
    await speak.register("n1")
    told = await speak("DELETE", "/v1/nodes/n1")
    assert (told.status, told.kind, told.body) == (200, speak.kind, {"outcome": "removed"})
    assert not shards.redis.exists(shards.node("n1"))
    await speak.refused("GET", "/v1/nodes/n1", None, 404)


async def test_an_unknown_node_is_404_at_every_door(speak: Speaker) -> None:
    await speak.refused("GET", "/v1/nodes/n1", None, 404)
    await speak.refused("DELETE", "/v1/nodes/n1", None, 404)
    await speak.refused("POST", "/v1/nodes/n1/heartbeat", {"incarnation": 1}, 404)
    for verb in ("cordon", "uncordon", "drain"):
        await speak.refused("POST", f"/v1/nodes/n1/{verb}", None, 404)


async def test_the_cluster_is_told_in_numbers(speak: Speaker) -> None:
    for name in ("n1", "n2"):
        await speak.register(name)
    await speak("POST", "/v1/nodes/n2/cordon")
    await speak("POST", "/v1/jobs", JOB)
    await speak.followed()
    told = await speak("GET", "/v1/cluster")
    assert (told.status, told.kind) == (200, speak.kind)
    cluster = told.body
    assert cluster["nodes"] == {"ready": 1, "cordoned": 1, "draining": 0, "lost": 0}
    assert (cluster["slots"], cluster["leases"], cluster["free_nodes"], cluster["abi"]) == (8, 1, 1, 1)
    assert cluster["epoch"]
    assert cluster["snapshot"]["nodes"] == 2
    assert cluster["snapshot"]["age_ms"] >= 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://replica"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
    ],
)
async def test_without_a_key_no_page_of_another_address_changes_anything(
    plain: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    """A browser sends such a request without asking first: it has no body, or one without a type."""
    node = {"endpoint": "http://n1", "slots": 2, "capabilities": ["a"], "ttl_ms": 60_000}
    assert (await plain.put("/v1/nodes/n1", json=node)).status_code == 201
    told = await plain.post("/v1/nodes/n1/drain", headers=headers)
    assert told.status_code == status, told.text
    state = (await plain.get("/v1/nodes/n1", headers=headers)).json()["node"]["state"]
    assert state == ("draining" if status == 200 else "ready")
