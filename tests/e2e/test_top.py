"""`fleet top` for real: one look, looks as lines, as JSON, and live on a terminal."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import httpx
import pytest
import redis

from tests.e2e.conftest import FLEET, P, Run, environ, fcall, place, register
from tests.sharded import Shards

pytestmark = pytest.mark.one_shard("counts what one shard has")


@pytest.fixture
def at_work(shards: Shards, http: httpx.Client) -> None:
    register(shards, "n1", "gpu", slots=4)
    register(shards, "n2", "asr:zh", slots=2)
    fcall(shards, "pool_put", "gold", '{"selector":{"all":true}}')
    for _ in range(3):
        assert place(http, "gpu", ack_ms=600_000).status_code == 201
    assert place(http, "asr:zh", ack_ms=600_000).status_code == 201
    assert place(http, "gpu", ack_ms=600_000).status_code == 201
    assert place(http, "gpu", wait_ms=60_000).status_code == 202


@pytest.mark.usefixtures("at_work")
def test_one_look_has_numbers_pools_nodes_and_events(fleet: Run, client: redis.Redis) -> None:
    client.hset(f"{P}:node:n2", "cpu", 40)
    told = json.loads(fleet("top", "--once", "--json").stdout)
    assert (told["nodes"], told["states"], told["slots"], told["used"]) == (2, {"ready": 2}, 6, 5)
    assert (told["free_nodes"], told["leases"], told["waiting"], told["shards"]) == (1, 5, 1, 1)
    assert [(node["id"], node["used"], node["slots"]) for node in told["busiest"]] == [("n1", 4, 4), ("n2", 1, 2)]
    assert [pool["name"] for pool in told["pools"]] == ["gold"]
    assert told["events"][-1]["kind"] == "job_waiting"
    shown = fleet("top", "--once").stdout
    assert "nodes 2 ready   slots 5/6 (83%)   free nodes 1   waiting 1 (oldest " in shown
    assert re.search(r"n1 +4/4 +█{20} +0 %", shown)
    assert re.search(r"\d\d:\d\d:\d\d +job_waiting", shown)


@pytest.mark.usefixtures("at_work")
def test_without_a_terminal_each_look_is_a_line(fleet: Run) -> None:
    lines = fleet("top", "--count", "3", "--interval", "0.1").stdout.splitlines()
    assert len(lines) == 3
    assert all(re.match(r"2\d{3}-\d\d-\d\d \d\d:\d\d:\d\d  nodes 2 ready   slots 5/6", line) for line in lines)
    looks = [
        json.loads(line) for line in fleet("top", "--count", "2", "--interval", "0.1", "--json").stdout.splitlines()
    ]
    assert [look["used"] for look in looks] == [5, 5]


def test_what_happens_between_looks_is_a_rate(client: redis.Redis, shards: Shards, redis_url: str) -> None:
    register(shards, "n1", "gpu")
    argv = [str(FLEET), "top", "--count", "2", "--interval", "2", "--json"]
    with subprocess.Popen(argv, env=environ(redis_url), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["per_second"] == {}
        for number in range(40):
            client.xadd(f"{P}:events", {"kind": "job_succeeded", "job": f"0.{number}"})
        told = json.loads(process.stdout.readline())
        assert process.wait(20) == 0
    assert 1 < told["per_second"]["job_succeeded"] <= 20


@pytest.mark.parametrize(("term", "live"), [("xterm", True), ("dumb", False)])
@pytest.mark.usefixtures("at_work")
def test_on_a_terminal_it_redraws_and_a_dumb_one_gets_lines(redis_url: str, term: str, live: bool) -> None:  # noqa: FBT001
    terminal, end = pty.openpty()
    argv = [str(FLEET), "top", "--interval", "0.2"]
    given = environ(redis_url) | {"TERM": term, "LINES": "40"}
    with subprocess.Popen(argv, env=given, stdin=end, stdout=end, stderr=subprocess.DEVNULL) as process:
        os.close(end)
        said, deadline = "", time.monotonic() + 20
        while said.count("slots 5/6") < 3 and time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.2)[0]:
                said += os.read(terminal, 65_536).decode("utf-8", "replace")
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    os.close(terminal)
    assert said.count("slots 5/6") >= 3
    assert ("\x1b[?1049h" in said) == live
    assert ("busiest nodes" in said) == live
