"""What replicas and nodes write on stderr: every line is one record, and it says which request or job it is of."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import redis

from scheduler.dev.process import stop
from scheduler.dev.server import EmbeddedServer
from scheduler.store.library import read_library
from tests.e2e.conftest import register, wait_until
from tests.e2e.processes import Processes
from tests.sharded import Shards

pytestmark = pytest.mark.timeout(120)

ALL = {"FLEET_LOG_FORMAT": "json", "FLEET_ACCESS_LOG": "on"}
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def processes(redis_url: str, tmp_path: Path) -> Iterator[Processes]:
    running = Processes(redis_url, tmp_path)
    yield running
    stop(running.started)


def records(processes: Processes, number: int = 0) -> list[dict[str, Any]]:
    """Every line of this process, each a record."""
    told = [json.loads(line) for line in processes.said(number).splitlines()]
    assert all({"at", "level", "logger", "event"} <= record.keys() for record in told)
    return told


def answered(processes: Processes, **wanted: object) -> list[dict[str, Any]]:
    return [
        record
        for record in records(processes)
        if record["event"] == "request_answered" and all(record.get(name) == value for name, value in wanted.items())
    ]


def test_each_request_has_an_id_in_its_answer_its_problem_and_its_records(
    processes: Processes, shards: Shards
) -> None:
    url = processes.replica(ALL)
    register(shards, "n1", "a")
    given = httpx.post(
        f"{url}/v1/jobs?secret=query",
        json={"requires": ["a"], "payload": "secret payload"},
        headers={
            "x-request-id": "Root=1-67891233:a/b+c",
            "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
            "authorization": "Bearer secret-key",
        },
    )
    assert (given.status_code, given.headers["x-request-id"]) == (201, "Root=1-67891233:a/b+c")
    wait_until(lambda: answered(processes, request_id="Root=1-67891233:a/b+c"), "it is logged")
    (record,) = answered(processes, request_id="Root=1-67891233:a/b+c")
    job = given.json()["job"]
    assert (record["method"], record["path"], record["status"]) == ("POST", "/v1/jobs", 201)
    assert (record["tenant"], record["job_id"], record["node"]) == ("default", job["id"], "n1")
    assert record["trace_id"] == TRACE
    assert 0 < record["took_ms"] < 10_000
    assert "secret" not in processes.said(0)

    for kind, decode in (("application/json", msgspec.json.decode), ("application/msgpack", msgspec.msgpack.decode)):
        bad = httpx.get(f"{url}/v1/jobs/none", headers={"accept": kind})
        (name,) = bad.headers.get_list("x-request-id")
        assert decode(bad.content)["request_id"] == name
        assert len(name) <= 32
        wait_until(lambda name=name: answered(processes, request_id=name, status=404), "it is logged")  # type: ignore[misc]


def test_records_say_what_the_request_is_about(processes: Processes, shards: Shards) -> None:
    url = processes.replica(ALL)
    register(shards, "n1", "a")
    mine = {"x-fleet-tenant": "acme", "x-request-id": "r1"}
    httpx.post(f"{url}/v1/jobs/acme:none/cancel", headers=mine)
    httpx.post(f"{url}/v1/nodes/n1/cordon", headers={"x-request-id": "r2"})
    wait_until(lambda: answered(processes, request_id="r2"), "it is logged")
    (cancel,), (cordon,) = answered(processes, request_id="r1"), answered(processes, request_id="r2")
    assert (cancel["job_id"], cancel["tenant"], cancel["status"]) == ("acme:none", "acme", 404)
    assert (cordon["node"], cordon["status"]) == ("n1", 200)


HOSTILE = {
    "long": b"x" * 10_000,
    "newline": b"a\nINFO forged",
    "return": b"a\rforged",
    "binary": bytes(range(128, 256)),
    "nul": b"a\0b",
    "quote": b'a","level":"forged',
    "space": b"a forged",
    "colour": b"\x1b[31mforged",
    "empty": b"",
}


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_hostile_id_is_neither_told_nor_logged(processes: Processes, form: str) -> None:
    url = processes.replica(ALL | {"FLEET_LOG_FORMAT": form})
    for value in HOSTILE.values():
        request = b"GET /v1/jobs/none?forged HTTP/1.1\r\nhost: fleet\r\nconnection: close\r\nx-request-id: %b\r\n\r\n"
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 10) as raw:
            raw.sendall(request % value)
            told = b""
            while chunk := raw.recv(65_536):
                told += chunk
        # the parser itself refuses some of them
        assert told.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")), told[:200]
        assert b"forged" not in told
        assert told.startswith(b"HTTP/1.1 400") or b"x-request-id: " in told
        assert value == b"" or value not in told
    httpx.get(f"{url}/v1/jobs/none", headers={"x-request-id": "last"})
    wait_until(lambda: "request_id=last" in processes.said(0) or '"request_id": "last"' in processes.said(0), "all")
    said = processes.said(0)
    assert "forged" not in said
    assert "x" * 200 not in said
    assert said.isascii()
    assert form == "text" or records(processes)
    assert form == "json" or all(line[4] == "-" and line[19] == "." for line in said.splitlines())


def test_hostile_paths_are_one_line_each(processes: Processes) -> None:
    url = processes.replica(ALL)
    for path in ("/%0aforged", "/%1b%5b31m", "/" + "x" * 5_000, "/%ff%fe", "/v1/jobs/%22%7d%0a"):
        assert httpx.get(url + path).status_code in {404, 405, 422}
    wait_until(lambda: len(answered(processes)) >= 5, "they are logged")
    assert all(len(record["path"]) <= 256 for record in answered(processes))


def test_answers_are_logged_only_where_asked_for(processes: Processes) -> None:
    url = processes.replica({"FLEET_LOG_FORMAT": "json"})
    named = httpx.get(f"{url}/v1/jobs/none").headers["x-request-id"]
    assert named
    assert [record["event"] for record in records(processes)] == ["replica_ready"]


def test_the_log_of_answers_is_its_own_switch(processes: Processes) -> None:
    url = processes.replica(ALL | {"FLEET_LOG_LEVEL": "error"})
    httpx.get(f"{url}/v1/jobs/none")
    wait_until(lambda: answered(processes, path="/v1/jobs/none"), "it is logged")
    assert {record["event"] for record in records(processes)} == {"request_answered"}


def test_a_handlers_own_records_say_which_attempt_they_are_of(processes: Processes) -> None:
    url = processes.replica(ALL)
    processes.node("n1", {"FLEET_LOG_FORMAT": "json", "FLEET_LOG_LEVEL": "debug"})
    wait_until(lambda: httpx.get(f"{url}/v1/nodes").json()["nodes"], "the node is there", 20)
    body = {"requires": ["a"], "payload": "fail once", "retry_failed": True, "wait_ms": 20_000}
    job = httpx.post(f"{url}/v1/jobs", json=body, timeout=20).json()["job"]["id"]
    assert httpx.get(f"{url}/v1/jobs/{job}?wait_ms=20000", timeout=30).json()["job"]["state"] == "succeeded"
    processes.started[1].terminate()
    assert processes.started[1].wait(20) == 0
    told = records(processes, 1)
    mine = [record for record in told if record.get("job_id") == job]
    work = [record for record in mine if record["logger"] == "theirs"]
    assert [record["attempt"] for record in work] == [1, 2]
    assert len({record["fence"] for record in work}) == 2
    (failed,) = (record for record in mine if record["event"] == "job_failed")
    assert (failed["attempt"], failed["level"]) == (1, "WARNING")
    assert "ValueError: the first attempt fails" in failed["exc_info"]
    reported = [record["outcome"] for record in mine if record["event"] == "job_reported"]
    assert reported == ["failed", "succeeded"]
    events = [record["event"] for record in told]
    assert {"node_registered", "node_left"} <= set(events)
    assert all(record["node"] == "n1" for record in told if record["logger"].startswith(("fleet", "theirs")))


def test_an_outage_is_told_once_and_without_the_password(fresh_server: Any, tmp_path: Path) -> None:
    password = "pass/w0rd+of-redis"
    server: EmbeddedServer = fresh_server()
    url = f"redis://:pass%2Fw0rd%2Bof-redis@127.0.0.1:{server.port}"
    with redis.Redis(port=server.port) as client:
        client.execute_command("FUNCTION", "LOAD", "REPLACE", read_library().code)
        client.config_set("requirepass", password)
        processes = Processes(url, tmp_path)
        try:
            replica = processes.replica(ALL | {"FLEET_LOG_LEVEL": "debug"})
            processes.node("n1", {"FLEET_LOG_FORMAT": "json", "FLEET_LOG_LEVEL": "debug"})
            wait_until(lambda: httpx.get(f"{replica}/v1/nodes").json()["nodes"], "the node is there", 20)
            # from now on the password is wrong
            client.config_set("requirepass", "another")
            client.execute_command("CLIENT", "KILL", "TYPE", "normal")
            wait_until(lambda: "replica_unready" in processes.said(0), "the replica says so", 20)
            wait_until(lambda: "redis_away" in processes.said(1), "the node says so", 20)
            shown = httpx.get(f"{replica}/readyz", timeout=10).text + httpx.get(f"{replica}/metrics", timeout=10).text
            refused = httpx.post(f"{replica}/v1/jobs", json={"requires": ["a"]}, timeout=10)
            assert refused.status_code == 503
            with redis.Redis(port=server.port, password="another") as again:
                again.config_set("requirepass", password)
                again.execute_command("CLIENT", "KILL", "TYPE", "normal")
            wait_until(lambda: processes.said(0).count("replica_ready") == 2, "the replica is back", 20)
            wait_until(lambda: "redis_back" in processes.said(1), "the node is back", 20)
            said = processes.said(0) + processes.said(1)
            assert [record["event"] for record in records(processes)].count("replica_unready") == 1
            assert [record["event"] for record in records(processes, 1)].count("redis_away") == 1
        finally:
            stop(processes.started)
    for text in (said, shown, refused.text):
        assert "w0rd" not in text


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("LOG_FORMAT", "xml", "text, json"),
        ("LOG_LEVEL", "INFO", "debug, info, warning, error"),
        ("ACCESS_LOG", "1", "off, on"),
    ],
)
def test_a_setting_that_is_none_of_its_choices_is_refused(
    processes: Processes, name: str, value: str, says: str
) -> None:
    process = processes.start("serve", environ={f"FLEET_{name}": value})
    assert process.wait(20) == 2
    assert f"{name.lower()} must be one of {says}" in processes.said(0)
