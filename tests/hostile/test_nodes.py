"""A node that lies, floods, guesses and repeats: what the functions prevent, seen through a real replica."""

import time
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import fcall, place, register, wait_until
from tests.sharded import Shards


def registered(http: httpx.Client, node: str, **more: object) -> int:
    body = {"endpoint": f"http://{node}", "slots": 4, "capabilities": ["a"], "ttl_ms": 60_000} | more
    told = http.put(f"/v1/nodes/{node}", json=body)
    assert told.status_code == 201, told.text
    return int(told.json()["incarnation"])


def beat(http: httpx.Client, node: str, incarnation: int, **fields: object) -> httpx.Response:
    return http.post(f"/v1/nodes/{node}/heartbeat", json={"incarnation": incarnation} | fields)


def kept(shards: Shards) -> dict[str, bytes]:
    """Every key but the shards' meta, whose clocks move by themselves, and the events."""
    return {name: held for name, held in shards.everything().items() if name.count(":") > 1 and "events" not in name}


@pytest.mark.one_shard("the liar and the honest node are to be compared by one claim")
@pytest.mark.timeout(60)
def test_a_node_that_claims_a_million_slots_and_no_load_is_set_aside_and_others_do_its_jobs(
    http: httpx.Client, shards: Shards
) -> None:
    registered(http, "liar", slots=1_000_000, cpu=0, gpu=0, mem=0)
    honest = registered(http, "honest", slots=4)
    wait_until(lambda: len(http.get("/v1/nodes").json()["nodes"]) == 2, "both are known")
    jobs = []
    for _ in range(12):
        body = {"requires": ["a"], "ack_ms": 150, "wait_ms": 30_000, "max_attempts": 100}
        placed = http.post("/v1/jobs", json=body)
        assert placed.status_code in {201, 202}, placed.text
        jobs.append(placed.json()["job"]["id"])
    done: set[str] = set()
    end = time.monotonic() + 40
    while len(done) < len(jobs):
        assert time.monotonic() < end, f"{len(done)} of {len(jobs)} done"
        for job in jobs:
            view = http.get(f"/v1/jobs/{job}").json()["job"]
            if view["state"] == "claimed" and view["node"]["id"] == "honest":
                finish = {"fence": view["fence"], "outcome": "succeeded"}
                http.post(f"/v1/jobs/{job}/finish", json=finish)
            elif view["state"] == "succeeded":
                done.add(job)
        beat(http, "honest", honest)
    assert shards.redis.hget(shards.node("liar"), "quarantined_until_ms") is not None
    assert shards.redis.hget(shards.node("honest"), "quarantined_until_ms") is None


def test_a_fence_that_is_guessed_or_of_another_job_ends_nothing(http: httpx.Client, shards: Shards) -> None:
    registered(http, "n1")
    one, other = (place(http, "a").json()["job"] for _ in range(2))
    before = kept(shards)
    for fence in (1, one["fence"] - 1, one["fence"] + 1, other["fence"], 2**53):
        for act, body in (
            ("start", {"fence": fence}),
            ("finish", {"fence": fence, "outcome": "succeeded", "result": "forged"}),
            ("finish", {"fence": fence, "outcome": "failed"}),
            ("finish", {"fence": fence, "outcome": "released"}),
        ):
            told = http.post(f"/v1/jobs/{one['id']}/{act}", json=body)
            assert (told.status_code, told.json()["title"]) == (409, "Fenced")
    assert kept(shards) == before


def test_an_old_fence_of_the_same_job_changes_nothing(http: httpx.Client, shards: Shards) -> None:
    incarnation = registered(http, "n1")
    first = http.post("/v1/jobs", json={"requires": ["a"], "max_attempts": 100}).json()["job"]
    released = {"fence": first["fence"], "outcome": "released"}
    assert http.post(f"/v1/jobs/{first['id']}/finish", json=released).status_code == 200
    # handed back, it waits for another node
    register(shards, "n2", "a")

    def view() -> dict[str, Any]:
        told: dict[str, Any] = http.get(f"/v1/jobs/{first['id']}").json()["job"]
        return told

    wait_until(lambda: view()["state"] == "claimed", "it is placed again")
    again = view()
    assert again["fence"] > first["fence"]
    before = kept(shards)
    for act, body in (("start", {"fence": first["fence"]}), ("finish", released)):
        assert http.post(f"/v1/jobs/{first['id']}/{act}", json=body).status_code == 409
    assert kept(shards) == before
    told = beat(http, "n1", incarnation, running=[{"job": first["id"], "fence": first["fence"]}]).json()
    assert told["cancel"] == [{"job": first["id"], "fence": first["fence"]}]
    assert view()["fence"] == again["fence"]


def test_an_incarnation_that_is_guessed_or_over_is_fenced_and_changes_nothing(
    http: httpx.Client, shards: Shards
) -> None:
    old = registered(http, "n1")
    present = registered(http, "n1")
    before = kept(shards)
    for incarnation in (1, old, present - 1, present + 1):
        told = beat(http, "n1", incarnation, cpu=100, slots=1, capabilities=["b"], labels={"zone": "mine"})
        assert (told.status_code, told.json()["title"]) == (409, "Fenced")
        assert fcall(shards, "node_remove", "n1", incarnation) == ["fenced"]
    assert kept(shards) == before


def test_whoever_registers_as_another_node_inherits_none_of_its_jobs(http: httpx.Client, shards: Shards) -> None:
    victim = registered(http, "n1")
    job = http.post("/v1/jobs", json={"requires": ["a"], "payload": "secret", "max_attempts": 1}).json()["job"]
    thief = registered(http, "n1", capabilities=["other"])
    assert beat(http, "n1", victim).status_code == 409, "the victim hears of it at once, and stops"
    told = http.post(f"/v1/jobs/{job['id']}/start", json={"fence": job["fence"]})
    assert told.status_code in {404, 409}
    assert "secret" not in told.text
    assert shards.holding("n1") == 0
    claims = [{"job": job["id"], "fence": job["fence"]}]
    # until it was reaped it is a job of this fence
    wait_until(lambda: beat(http, "n1", thief, running=claims).json()["cancel"] == claims, "the job is taken away")


def test_a_heartbeat_never_touches_a_lease(http: httpx.Client, shards: Shards) -> None:
    incarnation = registered(http, "n1", slots=4)
    for _ in range(3):
        assert place(http, "a").status_code == 201
    leases = shards.redis.zrange(f"{shards.node('n1')}:leases", 0, -1, withscores=True)
    assert beat(http, "n1", incarnation, slots=1, cpu=100, capabilities=["b"], running=[]).status_code == 200
    assert shards.redis.zrange(f"{shards.node('n1')}:leases", 0, -1, withscores=True) == leases


def test_a_flood_of_heartbeats_leaves_nothing_behind(shards: Shards) -> None:
    """Loads, offers that change with each, and a thousand jobs that nobody gave it."""
    incarnation = register(shards, "n1", "a")
    before = {name: len(held) for name, held in kept(shards).items()}
    for turn in range(200):
        many = " ".join(f"t{turn}:{number}" for number in range(50))
        told = fcall(shards, "node_heartbeat", "n1", incarnation, "cpu", turn % 80, "capabilities", many)
        assert told[0] == "ok"
    lies = " ".join(f"0.{number:032x} {number + 1}" for number in range(1_000))
    told = fcall(shards, "node_heartbeat", "n1", incarnation, "running", lies)
    assert told.count("cancel") == 1_000
    assert fcall(shards, "node_heartbeat", "n1", incarnation, "capabilities", "a", "cpu", 0)[0] == "ok"
    after = {name: len(held) for name, held in kept(shards).items()}
    assert after.keys() == before.keys()
    assert sum(after.values()) < sum(before.values()) + 200


def test_a_node_gives_no_orders(http: httpx.Client, shards: Shards) -> None:
    """What a heartbeat or a registration may say is a closed list; nothing of it is for another node."""
    incarnation = registered(http, "n1")
    registered(http, "n2")
    before = kept(shards)
    for wrong in ("cancel", "drain_ms", "state", "pools", "drain", "jobs"):
        assert beat(http, "n1", incarnation, **{wrong: 1}).status_code == 422
    for name in ("state", "incarnation", "pools", "quarantined_until_ms", "share", "drain_until_ms"):
        with pytest.raises(Exception, match="BADARG arguments"):
            fcall(shards, "node_heartbeat", "n1", incarnation, name, "1")
    assert kept(shards) == before


@pytest.mark.one_shard("fills one shard's events")
def test_events_are_trimmed_however_many_a_node_causes(shards: Shards) -> None:
    events = f"{shards.keys[0]}:events"
    with shards.redis.pipeline(transaction=False) as pipe:
        for _ in range(10_500):
            pipe.xadd(events, {"kind": "node_registered", "node": "n1"})
        pipe.execute()
    for _ in range(20):
        register(shards, "n1", "a")
    # trimming goes by whole pages of a stream, of a hundred entries
    assert 10_000 <= shards.redis.xlen(events) <= 10_100
