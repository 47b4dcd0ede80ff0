"""Replicas and nodes that are killed, stopped and revived: what is true afterwards."""

import asyncio
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from scheduler.dev.load import wait_ready
from scheduler.dev.process import spawn_bound
from tests.bench.dead_nodes import measure
from tests.e2e.conftest import FLEET, fcall, free_ports_in_a_row, place, register, wait_until
from tests.sharded import Shards

TTL_S = 3.0
HANDLER = """
import asyncio, json, pathlib

async def work(job):
    told = json.loads(job.payload)
    said = pathlib.Path("said")
    with said.open("a") as file:
        print("begun", job.id, job.fence, file=file, flush=True)
        try:
            await asyncio.sleep(told["s"])
        except asyncio.CancelledError:
            print("cancelled", job.id, job.fence, file=file, flush=True)
            raise
    return "done"
"""


class Started:
    """Real processes on this test's server; every one is gone at the end."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._folder = url, folder
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
        self._processes: list[subprocess.Popen[bytes]] = []

    def _start(self, *argv: str | Path, cwd: Path | None = None) -> "subprocess.Popen[bytes]":
        process = spawn_bound([FLEET, *argv], environ=self._environ, cwd=cwd, stderr=subprocess.DEVNULL)
        self._processes.append(process)
        return process

    def replicas(self, count: int) -> tuple[list["subprocess.Popen[bytes]"], list[str]]:
        first = free_ports_in_a_row(count)
        ports = range(first, first + count)
        started = [self._start("serve", "--redis-url", self._url, "--port", str(port)) for port in ports]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        asyncio.run(wait_ready(urls, 30))
        return started, urls

    def node(self, name: str, slots: int = 2, ttl_ms: int = 3_000) -> tuple["subprocess.Popen[bytes]", Path]:
        """The process, and the file in which its handler says what it does."""
        folder = self._folder / name
        folder.mkdir()
        (folder / "mine.py").write_text(HANDLER, "utf-8")
        words = {
            "id": name, "slots": str(slots), "capabilities": "work", "handler": "mine:work", "cpu-max": "100",
            "mem-max": "100", "gpu-max": "100", "redis-url": self._url, "ttl-ms": str(ttl_ms), "heartbeat-ms": "300",
        }  # fmt: skip
        options = [word for key, value in words.items() for word in (f"--{key}", value)]
        return self._start("node", "run", *options, cwd=folder), folder / "said"

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


@pytest.fixture
def started(redis_url: str, tmp_path: Path) -> Iterator[Started]:
    processes = Started(redis_url, tmp_path)
    yield processes
    processes.kill()


def job_of(shards: Shards, job: str) -> dict[str, str]:
    raw = cast("dict[bytes, bytes]", shards.redis.hgetall(shards.job(job)))
    return {key.decode(): value.decode() for key, value in raw.items()}


def in_state(shards: Shards, node: str, state: str) -> Callable[[], bool]:
    return lambda: shards.redis.hget(shards.node(node), "state") == state.encode()


def test_replicas_killed_with_claims_in_flight_leave_each_claim_once_and_its_id_finds_it(
    started: Started, shards: Shards
) -> None:
    register(shards, "n1", "a", slots=100_000)
    replicas, urls = started.replicas(3)
    count, kills = 600, {150: replicas[0], 350: replicas[1]}
    first: dict[str, dict[str, Any]] = {}
    lost: list[str] = []

    def send(number: int) -> None:
        if doomed := kills.get(number):
            doomed.kill()
        job = f"job-{number}"
        body = {"requires": ["a"], "deliver": "direct", "id": job, "ack_ms": 600_000}
        for url in (urls[number % 2], urls[2]):
            try:
                answer = http.post(f"{url}/v1/jobs", json=body)
            except httpx.TransportError:
                lost.append(job)
                continue
            assert answer.status_code in {200, 201}, answer.text
            first[job] = answer.json()["job"]
            return

    with httpx.Client(timeout=30) as http:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(send, range(count)))
        assert lost, "no claim was in flight when a replica was killed"
        assert len(first) == count
        # what a killed replica held in another shard than the job's home lapses after two seconds
        wait_until(lambda: shards.holding("n1") == count and shards.total("leases") == count, "no hold is left")
        leases = cast("list[bytes]", shards.redis.zrange(f"{shards.node('n1')}:leases", 0, -1))
        assert Counter(leases) == Counter(f"default:{job}".encode() for job in first)
        for job in (*lost, "job-1"):
            again = place_again(http, urls[2], job)
            assert (again["node"], again["fence"], again["attempt"]) == (
                first[job]["node"], first[job]["fence"], 1,
            )  # fmt: skip


def place_again(http: httpx.Client, url: str, job: str) -> dict[str, Any]:
    answer = http.post(f"{url}/v1/jobs", json={"requires": ["a"], "deliver": "direct", "id": job, "ack_ms": 600_000})
    assert answer.status_code == 200, answer.text
    return cast("dict[str, Any]", answer.json()["job"])


@pytest.mark.timeout(120)
def test_killed_nodes_get_no_claim_after_their_ttl_and_their_jobs_run_elsewhere_within_five_seconds() -> None:
    deaths = asyncio.run(measure(3, at_once=3, survivors=2))
    print(f"\n{[(round(death.last_claim_s, 2), round(death.elsewhere_s, 2)) for death in deaths]}")
    assert len(deaths) == 3
    # a claim that was sent within the TTL is answered a little later
    assert all(death.last_claim_s <= TTL_S + 0.5 for death in deaths)
    assert all(death.elsewhere_s <= 5 for death in deaths)


def test_the_job_of_a_killed_node_that_no_other_can_take_over_fails_with_the_reason(
    started: Started, shards: Shards
) -> None:
    _, (url,) = started.replicas(1)
    node, said = started.node("n1", ttl_ms=1_000)
    wait_until(in_state(shards, "n1", "ready"), "n1 is registered", 30)
    with httpx.Client(base_url=url, timeout=10) as http:
        body = {"requires": ["work"], "id": "last", "max_attempts": 1, "payload": {"s": 60}}
        assert http.post("/v1/jobs", json=body).status_code == 201
        wait_until(said.exists, "the job has begun")
        node.kill()
        killed = time.monotonic()
        told = http.get("/v1/jobs/default:last?wait_ms=10000").json()["job"]
    assert (told["state"], told["reason"]) == ("failed", "node_lost")
    assert time.monotonic() - killed <= 5


def test_a_revived_node_is_fenced_and_stops_what_runs_elsewhere_by_then(started: Started, shards: Shards) -> None:
    _, (url,) = started.replicas(1)
    frozen, said = started.node("n1", ttl_ms=1_000)
    wait_until(in_state(shards, "n1", "ready"), "n1 is registered", 30)
    incarnation = shards.redis.hget(shards.node("n1"), "incarnation")
    with httpx.Client(base_url=url, timeout=10) as http:
        body = {"requires": ["work"], "id": "j1", "payload": {"s": 60}}
        placed = http.post("/v1/jobs", json=body).json()["job"]
        wait_until(said.exists, "the job has begun")
        _, heard = started.node("n2", ttl_ms=5_000)
        wait_until(in_state(shards, "n2", "ready"), "n2 is registered", 30)
        frozen.send_signal(signal.SIGSTOP)
        wait_until(heard.exists, "the job runs on n2", 5)
        moved = job_of(shards, "default:j1")
        assert (moved["state"], moved["node"], moved["attempt"]) == ("running", "n2", "2")
        assert int(moved["fence"]) > placed["fence"]
        # what it still sends under its old fence changes nothing
        finish = {"fence": placed["fence"], "outcome": "succeeded"}
        assert http.post("/v1/jobs/default:j1/finish", json=finish).status_code == 409
        frozen.send_signal(signal.SIGCONT)
        stopped = f"cancelled default:j1 {placed['fence']}\n"
        wait_until(lambda: stopped in said.read_text("utf-8"), "n1 has stopped its attempt")
        wait_until(
            lambda: shards.redis.hget(shards.node("n1"), "incarnation") != incarnation, "n1 is a new incarnation"
        )
        assert job_of(shards, "default:j1") == moved
        assert "cancelled" not in heard.read_text("utf-8")
        assert shards.holding("n1") == 0


@pytest.mark.parametrize("seconds", [3, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(120)])])
def test_without_any_replica_jobs_finish_waiting_ones_are_served_and_a_lost_node_is_reaped(
    started: Started, shards: Shards, seconds: int
) -> None:
    (replica,), (url,) = started.replicas(1)
    started.node("n1", slots=2)
    wait_until(in_state(shards, "n1", "ready"), "n1 is registered", 30)
    # two at a time, 0.4 s each, so that some still wait when the time is over
    # without a replica none moves to another shard, so all of this is in one
    jobs = [shards.beside("n1", f"j{number}x") for number in range(seconds * 5 + 2)]
    silent, orphan = shards.neighbour("n1", "silent"), shards.beside("n1", "orphan")
    with httpx.Client(base_url=url, timeout=10) as http:
        for job in jobs:
            body = {"requires": ["work"], "id": job, "payload": {"s": 0.4}, "wait_ms": 120_000}
            assert http.post("/v1/jobs", json=body).status_code in {201, 202}
        register(shards, silent, "other", ttl_ms=1_500)
        assert place(http, "other", id=orphan, max_attempts=1).status_code == 201
        replica.kill()
        replica.wait()
        gone = time.monotonic()
        ended_before = sum(job_of(shards, f"default:{job}")["state"] == "succeeded" for job in jobs)
        wait_until(in_state(shards, silent, "lost"), "the heartbeats of n1 reap the silent node", 4)
        wait_until(lambda: job_of(shards, f"default:{orphan}")["state"] == "failed", "its job is ended", 2)
        assert job_of(shards, f"default:{orphan}")["reason"] == "node_lost"
    wait_until(
        lambda: all(job_of(shards, f"default:{job}")["state"] == "succeeded" for job in jobs),
        "every job that ran or waited has been done",
        seconds * 3 + 10,
    )
    assert ended_before < len(jobs) / 2
    assert time.monotonic() - gone >= seconds * 0.7
    _, (url,) = started.replicas(1)
    with httpx.Client(base_url=url, timeout=10) as http:
        assert http.get(f"/v1/jobs/default:{jobs[-1]}").json()["job"]["result"] == "done"


def test_what_a_leaving_node_had_not_begun_runs_elsewhere_and_spends_no_attempt(
    started: Started, shards: Shards
) -> None:
    _, (url,) = started.replicas(1)
    leaving, said = started.node("n1", slots=1)
    wait_until(in_state(shards, "n1", "ready"), "n1 is registered", 30)
    # the process works at one job at a time; Redis is told of two slots, so the second job is delivered but not begun
    fcall(
        shards,
        "node_heartbeat",
        "n1",
        cast("bytes", shards.redis.hget(shards.node("n1"), "incarnation")).decode(),
        "slots",
        2,
    )
    with httpx.Client(base_url=url, timeout=10) as http:
        for job, seconds in (("first", 2.0), ("second", 0.1)):
            body = {"requires": ["work"], "id": job, "max_attempts": 1, "payload": {"s": seconds}, "wait_ms": 60_000}
            assert http.post("/v1/jobs", json=body).status_code == 201
        wait_until(said.exists, "the first has begun")
        leaving.terminate()
        wait_until(lambda: "releases" in job_of(shards, "default:second"), "the second is handed back")
        started.node("n2")
        second = http.get("/v1/jobs/default:second?wait_ms=20000").json()["job"]
        first = http.get("/v1/jobs/default:first?wait_ms=20000").json()["job"]
    assert leaving.wait(20) == 0
    assert (second["state"], second["node"]["id"]) == ("succeeded", "n2")
    assert (first["state"], first["node"]["id"]) == ("succeeded", "n1")
    assert "second" not in said.read_text("utf-8")
    assert shards.redis.exists(shards.node("n1")) == 0
