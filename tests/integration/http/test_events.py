"""GET /v1/events of a real replica: in order, resumed, filtered, the tenant's own, never held up by a slow client."""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import redis

from tests.integration.http.test_serve import serving, wait_ready
from tests.sharded import Shards

P = "fleet:{0}"
EVENTS = f"{P}:events"


class Stream:
    """One client: takes the events apart as a browser would."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.comments = 0
        self._lines = response.iter_lines()

    def next(self) -> dict[str, Any] | None:
        """The next event with its `id` and `event` lines, or None at the end."""
        told: dict[str, str] = {}
        for line in self._lines:
            if line.startswith(":"):
                self.comments += 1
            elif line:
                name, _, value = line.partition(": ")
                told[name] = value
            elif told:
                data = json.loads(told.pop("data"))
                resume = told.get("id", "")
                # of several shards it names the place in each
                assert data.get("id", "") in [place.rpartition(":")[2] for place in resume.split(",")]
                return {**data, "event": told.get("event"), "resume": resume}
        return None

    def take(self, count: int) -> list[dict[str, Any]]:
        found = [self.next() for _ in range(count)]
        assert None not in found, found
        return [event for event in found if event]


@contextmanager
def following(url: str, tenant: str = "default", last: str | None = None, **query: str) -> Iterator[Stream]:
    headers = {"x-fleet-tenant": tenant} | ({"last-event-id": last} if last else {})
    with httpx.stream("GET", f"{url}/v1/events", params=query, headers=headers, timeout=20) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Stream(response)


@pytest.fixture
def replica(redis_url: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    with serving(redis_url) as (process, url):
        wait_ready(process, url)
        yield process, url


@pytest.fixture
def url(replica: tuple["subprocess.Popen[str]", str]) -> str:
    return replica[1]


def happen(client: redis.Redis, kind: str = "job_failed", *, events: str = EVENTS, **fields: str) -> str:
    given: dict[Any, Any] = {"kind": kind, "job": "0.a", "tenant": "default", "node": "n1", "reason": ""}
    stored: Any = client.xadd(events, given | fields)
    return str(stored.decode())


def behind(shards: Shards, position: str) -> str:
    """What resumes there in the first shard, and from now on in the others."""
    return position if len(shards.tags) == 1 else f"0:{position}"


def register(url: str, node: str, labels: str = "") -> None:
    body = {"endpoint": f"http://{node}", "slots": 9, "capabilities": ["a"], "labels": {}, "ttl_ms": 60_000}
    if labels:
        name, _, value = labels.partition("=")
        body["labels"] = {name: value}
    answer = httpx.put(f"{url}/v1/nodes/{node}", json=body)
    assert answer.status_code == 201, answer.text


def test_every_client_hears_what_happens_in_order(url: str, shards: Shards) -> None:
    with following(url) as one, following(url) as two:
        register(url, "n1")
        for outcome in ("succeeded", "failed"):
            job = httpx.post(f"{url}/v1/jobs", json={"requires": ["a"]}).json()["job"]
            end = {"fence": job["fence"], "outcome": outcome}
            assert httpx.post(f"{url}/v1/jobs/{job['id']}/finish", json=end).status_code == 200
        httpx.post(f"{url}/v1/nodes/n1/cordon")
        expected = ["node_registered", "job_succeeded", "job_failed", "node_cordoned"]
        heard: list[dict[str, Any]] = []
        while expected[-1] not in [event["kind"] for event in heard]:
            heard += one.take(1)
        assert [event["kind"] for event in heard if event["kind"] in expected] == expected
        # where to resume in a shard of which nothing was heard is when that stream began
        own = {"resume": ""}
        assert [event | own for event in two.take(len(heard))] == [event | own for event in heard]
    told: Any = shards.redis.xrange(f"{shards.of_node('n1')}:events")
    # a fleet is divided before anyone can listen
    stored = [position.decode() for position, fields in told if fields[b"kind"] != b"shard_initialised"]
    assert [event["id"] for event in heard] == stored
    assert heard[0]["at_ms"] == int(stored[0].split("-")[0])


def test_a_client_resumes_behind_the_last_event_that_it_heard(url: str, client: redis.Redis, shards: Shards) -> None:
    ids = [happen(client, job=f"0.{i}") for i in range(2_500)]
    with following(url, last=behind(shards, ids[0])) as stream:
        heard = stream.take(2_499)
        assert [event["id"] for event in heard] == ids[1:]
        later = happen(client)
        assert stream.take(1)[0]["id"] == later
    with following(url, last=heard[1_000]["resume"]) as stream:
        assert [event["id"] for event in stream.take(1_498)] == [event["id"] for event in heard[1_001:]]
    # the header is newer than the query
    with following(url, after=behind(shards, ids[-2]), last=behind(shards, ids[-1])) as stream:
        assert stream.take(1)[0]["id"] == later
    with following(url, after=behind(shards, "0")) as stream:
        assert stream.take(1)[0]["id"] == ids[0]


def test_a_resume_from_what_was_trimmed_begins_with_a_gap(url: str, client: redis.Redis, shards: Shards) -> None:
    ids = [happen(client) for _ in range(5)]
    client.xtrim(EVENTS, maxlen=2, approximate=False)
    with following(url, last=behind(shards, ids[0])) as stream:
        first, *others = stream.take(3)
        assert (first["event"], first["missed"]) == ("gap", None)
        assert [event["id"] for event in others] == ids[3:]
    gone = behind(shards, f"{int(ids[-1].split('-')[0]) + 60_000}-0")
    with following(url, last=gone) as stream:  # of data that are gone
        assert stream.take(1)[0]["event"] == "gap"
        later = happen(client)
        assert stream.take(1)[0]["id"] == later


def test_where_a_stream_resumes_does_not_tell_when_others_did_something(url: str, shards: Shards) -> None:
    for tag in shards.tags:
        other = happen(shards.redis, events=f"fleet:{{{tag}}}:events", job="other:a", tenant="other")
    seconds, micros = shards.redis.time()
    end = time.monotonic() + 10
    while shards.redis.time() <= (seconds, micros + 2_000) and time.monotonic() < end:
        pass
    since = int(other.partition("-")[0]) + 1
    with following(url, "acme", after=f"{since}-0") as stream:  # behind the newest, but no gap
        own = happen(shards.redis, job="acme:a", tenant="acme")
        first = stream.take(1)[0]
        assert (first["event"], first["id"]) == (None, own)
    with following(url, "acme") as stream:
        happen(shards.redis, events=f"fleet:{{{shards.tags[-1]}}}:events", job="other:b", tenant="other")
        own = happen(shards.redis, job="acme:b", tenant="acme")
        first = stream.take(1)[0]
        assert first["id"] == own
        assert other not in first["resume"]
    with following(url, "acme", last=first["resume"]) as stream:
        later = happen(shards.redis, events=f"fleet:{{{shards.tags[-1]}}}:events", job="acme:c", tenant="acme")
        assert stream.take(1)[0]["id"] == later


def test_filters_are_for_kinds_a_job_and_a_node_together(url: str, client: redis.Redis) -> None:
    asked = ({"kind": "job_failed,node_lost"}, {"job": "0.b"}, {"node": "n2"}, {"kind": "job_failed", "node": "n2"})
    with (
        following(url, **asked[0]) as kinds,
        following(url, **asked[1]) as job,
        following(url, **asked[2]) as node,
        following(url, **asked[3]) as both,
    ):
        ids = [
            happen(client, "job_succeeded"),
            happen(client, "job_failed"),
            happen(client, "job_waiting", job="0.b"),  # a kind that nobody had heard of
            happen(client, "job_succeeded", node="n2"),
            happen(client, "job_failed", node="n2"),
        ]
        assert [e["id"] for e in kinds.take(2)] == [ids[1], ids[4]]
        assert [e["id"] for e in job.take(1)] == [ids[2]]
        assert [e["id"] for e in node.take(2)] == ids[3:]
        assert [e["id"] for e in both.take(1)] == ids[4:]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"kind": "no kind"}, "kind"),
        ({"job": "a b"}, "job"),
        ({"node": "a b"}, "node"),
        ({"after": "yesterday"}, "after"),
        ({"after": f"{2**64}-0"}, "after"),
    ],
)
def test_a_filter_that_is_none_is_refused_by_its_name(url: str, query: dict[str, str], field: str) -> None:
    answer = httpx.get(f"{url}/v1/events", params=query)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert httpx.get(f"{url}/v1/events", headers={"last-event-id": "x"}).json()["field"] == "Last-Event-ID"


def test_a_tenant_hears_of_its_own_jobs_and_of_the_nodes_of_its_pools_only(url: str, shards: Shards) -> None:
    for tenant in ("acme", "other"):
        pool = {"selector": {"labels": {"for": tenant}}, "tenants": [tenant]}
        assert httpx.put(f"{url}/v1/pools/{tenant}", json=pool).status_code == 200
    with following(url, "acme") as acme, following(url, "other") as other:
        for tenant in ("acme", "other"):
            register(url, f"node-{tenant}", f"for={tenant}")
            node = f"node-{tenant}"
            events = f"{shards.of_node(node)}:events"  # order is within a shard
            happen(shards.redis, events=events, job=f"{tenant}:a", tenant=tenant, node=node)
            happen(shards.redis, "job_odd", events=events, job=f"{tenant}:b")  # of the tenant default
            shards.redis.xadd(events, {"kind": "job_odd", "job": f"{tenant}:c", "node": node})  # of nobody
            shards.redis.xadd(events, {"kind": "node_lost", "node": "forgotten"})
        for tenant in ("acme", "other"):
            httpx.post(f"{url}/v1/nodes/node-{tenant}/cordon")
        for tenant, stream in (("acme", acme), ("other", other)):
            heard = [(event["kind"], event["node"]) for event in stream.take(3)]
            assert heard == [(kind, f"node-{tenant}") for kind in ("node_registered", "job_failed", "node_cordoned")]
    with following(url, "acme", after="0") as acme:
        assert {event["node"] for event in acme.take(3)} == {"node-acme"}


def test_a_slow_client_is_told_what_it_missed_and_goes_on_while_others_miss_nothing(
    url: str, client: redis.Redis
) -> None:
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        slow.settimeout(20)
        slow.connect(("127.0.0.1", int(url.rpartition(":")[2])))
        slow.sendall(b"GET /v1/events HTTP/1.1\r\nhost: fleet\r\n\r\n")
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += slow.recv(4_096)
        with following(url) as quick:
            count = 1_600
            for number in range(count):
                happen(client, job=f"0.{number}", reason="x" * 20_000)
                assert quick.take(1)[0]["job"] == f"0.{number}"
            last = happen(client, "job_last")
            assert quick.take(1)[0]["id"] == last
        while b"event: gap" not in heard:
            heard = heard[-100:] + slow.recv(1 << 20)
        client.xtrim(EVENTS, maxlen=0, approximate=False)
        end = time.monotonic() + 10
        while b"job_after" not in heard:  # it goes on
            assert time.monotonic() < end
            happen(client, "job_after")
            heard = heard[-100:] + slow.recv(1 << 20)


def test_more_clients_than_the_setting_allows_are_503_and_a_place_comes_free(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_EVENT_CLIENTS", "2")
    with serving(redis_url) as (process, url):
        wait_ready(process, url)
        with following(url):
            with following(url):
                over = httpx.get(f"{url}/v1/events")
                assert (over.status_code, over.json()["code"]) == (503, "overrun")
                assert int(over.headers["retry-after"]) > 0
                assert httpx.head(f"{url}/v1/events").status_code == 503
            end = time.monotonic() + 10
            while httpx.head(f"{url}/v1/events").status_code != 200:
                assert time.monotonic() < end


@pytest.mark.one_shard("counts the reads of one follower")
def test_clients_cost_redis_nothing_of_their_own(url: str, client: redis.Redis) -> None:
    def reads() -> int:
        stats: Any = client.info("commandstats")
        return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("xread", "xrange", "xrevrange"))

    with following(url) as first:
        before = reads()
        streams = [following(url) for _ in range(20)]
        opened = [stream.__enter__() for stream in streams]
        for _ in range(5):
            happen(client)
            assert {stream.take(1)[0]["id"] for stream in (first, *opened)} != set()
        assert reads() - before <= 5 + 10  # an XREAD for each event, and those that ran into their time limit
        for stream in streams:
            stream.__exit__(None, None, None)


def test_streams_and_long_polls_end_cleanly_at_shutdown(replica: tuple["subprocess.Popen[str]", str]) -> None:
    process, url = replica
    register(url, "n1")
    job = httpx.post(f"{url}/v1/jobs", json={"requires": ["a"]}).json()["job"]["id"]
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 20) as poll, following(url) as stream:
        poll.sendall(f"GET /v1/jobs/{job}?wait_ms=60000 HTTP/1.1\r\nhost: fleet\r\n\r\n".encode())
        end = time.monotonic() + 10
        while "fleet_long_polls 1.0" not in httpx.get(f"{url}/metrics").text:
            assert time.monotonic() < end
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        while stream.next() is not None:
            pass
        answered = b""
        while more := poll.recv(65_536):
            answered += more
        assert answered.startswith(b"HTTP/1.1 200")
        assert b'"state":"claimed"' in answered
    _, errors = process.communicate(timeout=15)
    assert time.monotonic() - started < 4
    assert [line.split()[1:] for line in errors.splitlines()] == [["INFO", "replica_ready"]]


def test_a_restart_of_redis_ends_no_stream(fresh_server: Any) -> None:
    server = fresh_server("--appendonly", "yes", "--appendfsync", "always")
    with redis.Redis(port=server.port) as plain:
        from scheduler.store.library import read_library

        plain.execute_command("FUNCTION", "LOAD", read_library().code)
        with serving(server.url) as (process, url):
            wait_ready(process, url)
            with following(url) as stream:
                first = happen(plain)
                assert stream.take(1)[0]["id"] == first
                server.kill()
                server.start()
                second = happen(plain)
                assert stream.take(1)[0]["id"] == second  # and no gap: nothing was lost
                plain.flushall()
                third = happen(plain)
                while (told := stream.take(1)[0])["event"] == "gap":
                    pass
                assert told["id"] == third
