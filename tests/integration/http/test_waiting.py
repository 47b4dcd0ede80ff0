"""POST /v1/jobs with wait_ms: 202, followed to its end; 503 where too many wait; cancelled and expired waits."""

import asyncio

from tests.integration.http.conftest import Speaker
from tests.sharded import Shards


async def one_full_node(speak: Speaker) -> tuple[str, int]:
    """A node whose only slot is taken; the job that holds it and its fence."""
    await speak.register("n1", slots=1)
    placed = await speak("POST", "/v1/jobs", {"requires": ["asr:zh"], "deliver": "direct"})
    assert placed.status == 201
    return placed.body["job"]["id"], placed.body["job"]["fence"]


async def test_a_job_that_finds_no_slot_is_accepted_and_placed_when_one_is_free(
    speak: Speaker, shards: Shards
) -> None:
    later = shards.beside("n1", "later")  # elsewhere it would be moved a little after
    held, fence = await one_full_node(speak)
    told = await speak("POST", "/v1/jobs", {"requires": ["asr:zh"], "wait_ms": 60_000, "id": later})
    assert told.status == 202
    assert told.headers["location"] == f"/v1/jobs/default:{later}"
    assert told.body["job"] == {
        "id": f"default:{later}", "state": "pending", "node": None, "pool": "", "fence": 0, "attempt": 0,
        "lease_expires_at_ms": 0,
    }  # fmt: skip
    again = await speak("POST", "/v1/jobs", {"requires": ["asr:zh"], "wait_ms": 60_000, "id": later})
    assert (again.status, again.body["job"]["state"]) == (200, "pending")
    await speak("POST", f"/v1/jobs/{held}/finish", {"fence": fence, "outcome": "succeeded"})
    job = (await speak("GET", f"/v1/jobs/default:{later}")).body["job"]
    assert (job["state"], job["node"]["id"], job["attempt"]) == ("claimed", "n1", 1)


async def test_a_long_poll_follows_a_waiting_job_to_its_end(speak: Speaker) -> None:
    await one_full_node(speak)
    told = await speak("POST", "/v1/jobs", {"requires": ["asr:zh"], "wait_ms": 300})
    polling = asyncio.create_task(speak("GET", f"/v1/jobs/{told.body['job']['id']}?wait_ms=20000"))
    ended = (await polling).body["job"]
    assert (ended["state"], ended["reason"]) == ("expired", "overloaded")


async def test_a_waiting_job_is_its_tenants_to_cancel(speak: Speaker) -> None:
    await one_full_node(speak)
    told = await speak("POST", "/v1/jobs", {"requires": ["asr:zh"], "wait_ms": 60_000})
    job = told.body["job"]["id"]
    await speak.refused("POST", f"/v1/jobs/{job}/cancel", None, 404, tenant="other")
    assert (await speak("POST", f"/v1/jobs/{job}/cancel")).body == {"outcome": "cancelled"}
    assert (await speak("GET", f"/v1/jobs/{job}")).body["job"]["state"] == "cancelled"


async def test_what_no_node_offers_does_not_wait(speak: Speaker) -> None:
    await one_full_node(speak)
    told = await speak("POST", "/v1/jobs", {"requires": ["other"], "wait_ms": 60_000})
    assert (told.status, told.body["class"]) in {(422, "impossible"), (503, "unavailable")}


async def test_too_many_demands_that_wait_are_turned_away_with_the_limit(speak: Speaker, shards: Shards) -> None:
    tokens = tuple(f"t{number}" for number in range(129))
    await speak.register("n1", slots=1, capabilities=("asr:zh", *tokens))
    await speak("POST", "/v1/jobs", {"requires": ["asr:zh"], "deliver": "direct"})
    jobs = [{"requires": [token], "wait_ms": 60_000} for token in tokens]
    told = await speak("POST", "/v1/jobs:batch", {"jobs": jobs})
    statuses = sorted(outcome["status"] for outcome in told.body["jobs"])
    assert statuses == [202] * 96 + [503] * 33, "the others are for other tenants"
    crowded, *_ = [outcome["problem"] for outcome in told.body["jobs"] if outcome["status"] == 503]
    assert (crowded["title"], crowded["limit"]) == ("Crowded", "demands")
    assert shards.total("pending") == 96
    assert (await speak("POST", "/v1/jobs", jobs[0], tenant="other")).status == 202
