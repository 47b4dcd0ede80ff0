"""`fleet events`, `fleet jobs` and `fleet nodes` for real, with no replica: tables for people, JSON for programs."""

import json
import re
import signal
import subprocess
import sys
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import FLEET, P, Run, environ, fcall, place, register, wait_until
from tests.sharded import Shards


def happen(shards: Shards, kind: str, **fields: str) -> str:
    """In the job's shard, or in the first one."""
    given: dict[Any, Any] = {"kind": kind, **fields}
    shard = shards.of_job(fields["job"]) if "job" in fields else P
    stored: Any = shards.redis.xadd(f"{shard}:events", given)
    return str(stored.decode())


def kinds(text: str) -> list[str]:
    return [line.split()[2] for line in text.splitlines()]


def test_events_are_lines_with_local_time_kind_and_fields(fleet: Run, shards: Shards) -> None:
    failed: dict[Any, Any] = {"kind": "job_failed", "job": "0.a", "node": "", "reason": "lost"}
    # a fleet that was divided tells of that, too
    shards.redis.delete(f"{P}:events")
    shards.redis.xadd(f"{P}:events", failed, "1767225600123-0")
    lines = [line for line in fleet("events").stdout.splitlines() if "shard_initialised" not in line]
    assert lines == ["2026-01-01 00:00:00.123  job_failed        job 0.a  reason lost"]


def test_events_are_the_last_that_are_wanted(fleet: Run, shards: Shards) -> None:
    for number in range(1_500):
        happen(shards, "job_failed" if number % 500 == 0 else "job_succeeded", job=f"0.{number}", node="n1")
    happen(shards, "node_lost", node="n1")
    assert kinds(fleet("events", "--count", "2").stdout) == ["job_succeeded", "node_lost"]
    assert len(fleet("events").stdout.splitlines()) == 50
    found = fleet("events", "--kind", "job_failed,node_lost").stdout  # the oldest lies a page back
    assert kinds(found) == ["job_failed"] * 3 + ["node_lost"]
    assert kinds(fleet("events", "--kind", "job_failed", "--kind", "node_lost", "--count", "2").stdout) == [
        "job_failed",
        "node_lost",
    ]
    assert kinds(fleet("events", "--job", "0.500").stdout) == ["job_failed"]
    assert kinds(fleet("events", "--node", "n1", "--count", "1").stdout) == ["node_lost"]
    assert fleet("events", "--node", "n2").stdout == ""
    assert "--node" in fleet("events", "--node", "a b", status=2).stderr


def test_events_in_json_are_an_object_in_each_line(fleet: Run, shards: Shards) -> None:
    first, second = happen(shards, "node_lost", node="n1", kind_of="x"), happen(shards, "job_odd", id="not this")
    lines = [json.loads(line) for line in fleet("events", "--json").stdout.splitlines()]
    assert [line for line in lines if line["kind"] != "shard_initialised"] == [
        {"id": first, "at_ms": int(first.split("-")[0]), "kind": "node_lost", "node": "n1", "kind_of": "x"},
        {"id": second, "at_ms": int(second.split("-")[0]), "kind": "job_odd"},
    ]


def test_following_goes_on_until_ctrl_c(shards: Shards, redis_url: str) -> None:
    happen(shards, "node_lost", node="n1")
    # a parallel run of tests ignores SIGINT, and would hand that down
    heeding = "import os, signal, sys; signal.signal(2, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    argv = [sys.executable, "-c", heeding, str(FLEET), "events", "-f", "--kind", "node_lost"]
    with subprocess.Popen(
        argv, env=environ(redis_url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert "node n1" in process.stdout.readline()
        happen(shards, "job_failed", job="0.a")
        happen(shards, "node_lost", node="n2")
        assert "node n2" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=10)
    assert (process.returncode, rest, errors) == (130, "", "\n")


def test_a_reader_that_has_enough_ends_the_command_quietly(shards: Shards, redis_url: str) -> None:
    for _ in range(3_000):
        happen(shards, "node_lost", node="n1", reason="x" * 100)
    argv = [str(FLEET), "events", "--count", "3000"]
    with subprocess.Popen(argv, env=environ(redis_url), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(10) == 1


def test_a_jobs_story_is_its_record_in_words_and_its_events_in_order(
    fleet: Run, shards: Shards, http: httpx.Client
) -> None:
    register(shards, "n1", "a")
    name = shards.beside("n1", "x")
    job = place(http, "a", id=name).json()["job"]
    other = place(http, "a").json()["job"]
    happen(shards, "job_retried", job=job["id"], reason="node_lost")
    fcall(shards, "job_finish", job["id"], job["fence"], "succeeded", "r" * 300)
    fcall(shards, "job_finish", other["id"], other["fence"], "failed")
    words, where, times, demand, result, *heard = fleet("jobs", "show", job["id"]).stdout.splitlines()
    assert words == f"job default:{name} of tenant default: succeeded"
    assert where == f"attempt 1 on node n1 in pool default, fence {job['fence']}"
    assert re.fullmatch(r"created 2\d{3}-[\d :.-]+, ended \d+ ms after its creation", times)
    assert demand.startswith("requires ")
    assert "a" in demand
    assert result == f"result {'r' * 200} and 100 characters more"
    assert kinds("\n".join(heard)) == ["job_retried", "job_succeeded"]
    document = json.loads(fleet("jobs", "show", job["id"], "--json").stdout)
    assert document["job"] == http.get(f"/v1/jobs/{job['id']}").json()["job"]
    assert [event["kind"] for event in document["events"]] == ["job_retried", "job_succeeded"]
    shards.redis.delete(shards.job(job["id"]))
    gone = fleet("jobs", "show", job["id"]).stdout.splitlines()
    assert "its record is gone" in gone[0]
    assert len(gone) == 3


def test_jobs_counts_those_that_hold_a_slot_and_how_the_last_ones_fared(
    fleet: Run, shards: Shards, http: httpx.Client
) -> None:
    assert fleet("jobs").stdout.splitlines()[0] == "0 hold a slot now"
    register(shards, "n1", "a")
    placed = [place(http, "a").json()["job"] for _ in range(4)]
    for job, outcome in zip(placed, ("succeeded", "succeeded", "failed"), strict=False):
        happen(shards, "job_retried", job=job["id"])  # what was heard before the last counts no more
        fcall(shards, "job_finish", job["id"], job["fence"], outcome)
    held, since, *rows = fleet("jobs").stdout.splitlines()
    assert held == "1 hold a slot now"
    assert since.startswith("the last heard of each job since 2")
    assert [row.split() for row in rows] == [["job_succeeded", "2"], ["job_failed", "1", "handler_failed", "1"]]
    document = json.loads(fleet("jobs", "--json").stdout)
    assert (document["leases"], document["jobs"]) == (1, {"job_succeeded": 2, "job_failed": 1})
    assert document["reasons"] == {"job_failed": {"handler_failed": 1}}


def test_cancel_ends_a_job_and_says_if_it_had_ended(fleet: Run, shards: Shards, http: httpx.Client) -> None:
    register(shards, "n1", "a")
    job = place(http, "a").json()["job"]["id"]
    assert fleet("jobs", "cancel", job).stdout == f"cancelled {job}\n"
    wait_until(lambda: shards.redis.hget(shards.job(job), "state") == b"cancelled", "the job is cancelled")
    assert fleet("jobs", "cancel", job).stdout == f"{job} had ended before\n"


@pytest.mark.parametrize("words", [("jobs", "show"), ("jobs", "cancel"), ("nodes",)])
def test_an_unknown_id_is_status_1_and_a_bad_one_2(fleet: Run, words: tuple[str, ...]) -> None:
    done = fleet(*words, "nobody", status=1)
    assert (done.stdout, "nobody is known" in done.stderr) == ("", True)
    fleet(*words, "a b", status=2)


def test_nodes_are_a_table_of_what_redis_holds(fleet: Run, shards: Shards, http: httpx.Client) -> None:
    assert fleet("nodes").stdout == "no node is registered\n"
    incarnation = register(shards, "n1", "a", slots=3)
    register(shards, "n2", "b")
    fcall(shards, "node_heartbeat", "n1", incarnation, "cpu", 12, "gpu", 3.4, "mem", 50)
    fcall(shards, "node_mark", "n2", "cordon")
    assert place(http, "a").status_code == 201
    head, *rows = [re.split(r"  +", line.strip()) for line in fleet("nodes").stdout.splitlines()]
    assert head == ["id", "state", "slots", "cpu", "gpu", "mem", "pools", "heard"]
    assert [row[:7] for row in rows] == [
        ["n1", "ready", "1/3", "12 %", "3 %", "50 %", "default"],
        ["n2", "cordoned", "0/1000", "0 %", "0 %", "0 %", "default"],
    ]
    assert all(re.fullmatch(r"\d+ s ago", row[7]) for row in rows)
    document = json.loads(fleet("nodes", "--json").stdout)
    assert document["nodes"] == http.get("/v1/nodes").json()["nodes"]
    assert [node["id"] for node in json.loads(fleet("nodes", "n2", "--json").stdout)["nodes"]] == ["n2"]
    assert json.loads(fleet("nodes", "n2", "nobody", "--json", status=1).stdout)["nodes"][0]["id"] == "n2"


def test_every_node_of_a_large_fleet_is_listed_once(fleet: Run, shards: Shards) -> None:
    for number in range(450):
        register(shards, f"n{number:03}", "a")
    listed = [node["id"] for node in json.loads(fleet("nodes", "--json").stdout)["nodes"]]
    assert listed == [f"n{number:03}" for number in range(450)]
