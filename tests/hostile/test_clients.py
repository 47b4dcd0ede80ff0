"""A client that guesses job ids: how many there are, and what a wrong guess tells."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
import redis

from tests.e2e.conftest import place, register, wait_until
from tests.sharded import Shards

HALVES = (0.38, 0.62)


def test_an_id_that_a_replica_makes_has_128_bits_of_chance(http: httpx.Client, shards: Shards) -> None:
    register(shards, "n1", "a", slots=2_000)
    made = []
    for _ in range(2):
        told = http.post("/v1/jobs:batch", json={"jobs": [{"requires": ["a"], "deliver": "direct"}] * 500})
        made += [outcome["job"]["id"] for outcome in told.json()["jobs"]]
    assert len(set(made)) == 1_000
    numbers = [int(job.partition(".")[2], 16) for job in made]
    assert all(len(job.partition(".")[2]) == 32 for job in made)
    # each bit is set in about half of them: seven standard deviations on either side
    for bit in range(128):
        share = sum(number >> bit & 1 for number in numbers) / len(numbers)
        assert HALVES[0] < share < HALVES[1], bit


OTHER = {"x-fleet-tenant": "other", "x-request-id": "same"}


@contextlib.contextmanager
def watched(url: str, job: str, heard: Counter[str]) -> Iterator[None]:
    """Counts the commands that name the job, those within functions as well."""
    over, watches = threading.Event(), threading.Event()

    def listen() -> None:
        with redis.Redis.from_url(url, socket_timeout=5) as client, client.monitor() as monitor:
            watches.set()
            while not over.is_set():
                with contextlib.suppress(redis.TimeoutError):
                    command = monitor.next_command()["command"]
                    if job in command:
                        heard[command.split()[0]] += 1
                    if "the end" in command:
                        return

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        assert watches.wait(5)
        yield
        with redis.Redis.from_url(url) as client:
            client.execute_command("PING", "the end")
    finally:
        over.set()
        listener.join(10)


@pytest.mark.one_shard("one server is watched")
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("GET", "?wait_ms=1000", None),
        ("POST", "/start", {"fence": 1}),
        ("POST", "/finish", {"fence": 1, "outcome": "failed"}),
        ("POST", "/cancel", None),
    ],
)
def test_anothers_job_is_answered_as_one_that_does_not_exist_and_costs_redis_the_same(
    http: httpx.Client, shards: Shards, redis_url: str, method: str, path: str, body: dict[str, object] | None
) -> None:
    """The time of an answer tells what was done for it, so the same must be done for both."""
    register(shards, "n1", "a")
    mine = place(http, "a").json()["job"]
    if body:
        body = body | {"fence": mine["fence"]}
    told, done = [], []
    for job in (mine["id"], "0." + "0" * 32):
        heard: Counter[str] = Counter()
        begun = time.monotonic()
        with watched(redis_url, job, heard):
            answer = http.request(method, f"/v1/jobs/{job}{path}", json=body, headers=OTHER)
        assert time.monotonic() - begun < 8
        told.append((answer.status_code, answer.content, sorted(answer.headers.items() - date(answer))))
        done.append(heard)
    assert told[0][0] == 404
    assert told[0] == told[1]
    assert done[0] == done[1]
    assert done[0].total() > 0
    assert http.get(f"/v1/jobs/{mine['id']}").json()["job"]["state"] == "claimed"


def date(answer: httpx.Response) -> set[tuple[str, str]]:
    return {(name, value) for name, value in answer.headers.items() if name == "date"}


def test_an_id_that_a_client_chose_is_of_its_tenant_alone(http: httpx.Client, shards: Shards) -> None:
    """The same name of two tenants is two jobs, and nobody learns whether another has used it."""
    register(shards, "n1", "a")
    for tenant in ("acme", "other"):
        told = http.post(
            "/v1/jobs",
            json={"requires": ["a"], "deliver": "direct", "id": "order-1", "payload": tenant},
            headers={"x-fleet-tenant": tenant},
        )
        assert (told.status_code, told.json()["job"]["id"]) == (201, f"{tenant}:order-1")
    wait_until(lambda: shards.holding("n1") == 2, "both are there")
