"""deploy/nginx and deploy/haproxy for real, in front of three real replicas that are killed and restarted."""

import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from scheduler.dev.server import free_port
from tests.deploy.balancers import BALANCERS, Front, running, tool
from tests.deploy.serving import first_key
from tests.e2e.conftest import register, wait_until
from tests.sharded import Shards

_CHECK = {"nginx": "-t", "haproxy": "-c"}

_missing = {name: pytest.mark.skipif(tool(name) is None, reason=f"{name} is not installed") for name in BALANCERS}
each_balancer = pytest.mark.parametrize(
    "balancer",
    [
        pytest.param("nginx", marks=_missing["nginx"]),
        # the same again: once for all kinds of servers is enough
        pytest.param("haproxy", marks=[_missing["haproxy"], pytest.mark.slow]),
    ],
)


def direct(job: str) -> dict[str, object]:
    """A job that nobody starts, with a lease that outlasts the test."""
    return {"requires": ["a"], "deliver": "direct", "id": job, "ack_ms": 120_000}


@pytest.fixture
def front(balancer: str, redis_url: str, tmp_path: Path) -> Iterator[Front]:
    with running(balancer, redis_url, tmp_path) as made:
        yield made


@pytest.mark.parametrize("balancer", [pytest.param(name, marks=_missing[name]) for name in BALANCERS])
def test_the_balancer_takes_the_configuration(balancer: str, tmp_path: Path) -> None:
    argv = BALANCERS[balancer](tmp_path, [free_port() for _ in range(4)])
    done = subprocess.run([*argv, _CHECK[balancer]], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower()


@each_balancer
def test_keys_go_through_and_so_does_what_is_said_without_one(front: Front) -> None:
    key = first_key({"REDIS_URL": front.redis_url})
    with httpx.Client(base_url=front.url, timeout=30) as http:
        # one after another is asked, and a replica hears of the key with its next refresh
        wait_until(
            lambda: all(http.get("/v1/cluster").status_code == 401 for _ in range(9)), "every replica asks for a key"
        )
        assert http.get("/v1/pools").headers["www-authenticate"] == 'Bearer realm="fleet"'
        for _ in range(9):
            assert http.get("/v1/cluster", headers={"authorization": f"Bearer {key}"}).status_code == 200


@each_balancer
def test_a_job_goes_its_whole_way_through(front: Front, shards: Shards) -> None:
    register(shards, "n1", "a", slots=4)
    with httpx.Client(base_url=front.url, timeout=30) as http:
        placed = http.post("/v1/jobs", json={"requires": ["a"], "payload": {"x": 1}})
        assert placed.status_code == 201, placed.text
        job, fence = placed.json()["job"]["id"], placed.json()["job"]["fence"]
        assert http.post(f"/v1/jobs/{job}/start", json={"fence": fence}).json()["payload"] == '{"x":1}'
        early = http.get(f"/v1/jobs/{job}?wait_ms=100").json()
        assert early["job"]["state"] == "running"
        finish = {"fence": fence, "outcome": "succeeded"}
        assert http.post(f"/v1/jobs/{job}/finish", json=finish).status_code == 200
        assert http.get(f"/v1/jobs/{job}?wait_ms=60000").json()["job"]["state"] == "succeeded"
        # a refusal passes as it was said
        register(shards, "n2", "b", slots=1)
        last = {"requires": ["b"], "deliver": "direct"}
        assert http.post("/v1/jobs", json=last).status_code == 201
        refused = http.post("/v1/jobs", json=last)
        assert (refused.status_code, refused.json()["class"]) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) > 0
        # larger than what a balancer holds to send again, and larger than a replica takes
        large = {"requires": ["a"], "payload": "x" * 200_000, "id": "large"}
        assert http.post("/v1/jobs", json=large, headers={"idempotency-key": "large"}).status_code == 201
        assert http.post("/v1/jobs", content=b" " * (1 << 21)).status_code == 413
        assert http.get("/metrics").status_code == 404


@each_balancer
def test_connections_are_kept_on_both_sides(front: Front, shards: Shards) -> None:
    register(shards, "n1", "a", slots=1_000)
    with httpx.Client(base_url=front.url, timeout=30) as http:
        first = http.get("/v1/cluster").extensions["network_stream"].get_extra_info("client_addr")
        before = established(front)
        for _ in range(60):
            sent = http.post("/v1/jobs", json={"requires": ["a"], "deliver": "direct"})
            assert sent.status_code == 201
            assert sent.extensions["network_stream"].get_extra_info("client_addr") == first
        after = established(front)
    assert before & after
    # health checks open some as well; sixty more would be one for each request
    assert len(after - before) < 30


def established(front: Front) -> set[tuple[str, str]]:
    """The connections from the balancer to the replicas."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    return {(ln[1], ln[2]) for ln in lines if ln[3] == "01" and int(ln[2].rpartition(":")[2], 16) in front.ports}


@each_balancer
def test_a_replica_killed_midway_costs_no_request_that_carries_an_id(front: Front, shards: Shards) -> None:
    register(shards, "n1", "a", slots=100_000)
    count, killed_at = 600, 200
    statuses: Counter[int] = Counter()
    broken: list[str] = []

    with httpx.Client(base_url=front.url, timeout=30) as http, ThreadPoolExecutor(16) as pool:

        def place(number: int) -> int:
            if number == killed_at:
                front.replicas[0].kill()
            job = f"job-{number}"
            body = direct(job)
            try:
                return http.post("/v1/jobs", json=body, headers={"idempotency-key": job}).status_code
            except httpx.RemoteProtocolError:
                # killed between the head of an answer and its body: the head has been passed on, nobody can ask again
                broken.append(job)
                return http.post("/v1/jobs", json=body, headers={"idempotency-key": job}).status_code

        statuses.update(pool.map(place, range(count)))

    assert front.replicas[0].wait(5) == -9
    assert len(broken) <= 16, "no more than were under way"
    assert set(statuses) <= {200, 201}, statuses
    assert statuses.total() == count
    assert shards.holding("n1") == count


@each_balancer
def test_a_client_may_send_an_id_again_itself(front: Front, shards: Shards) -> None:
    register(shards, "n1", "a", slots=100_000)
    count, killed_at = 300, 100

    with httpx.Client(base_url=front.url, timeout=30) as http, ThreadPoolExecutor(16) as pool:

        def place(number: int) -> int:
            if number == killed_at:
                front.replicas[1].kill()
            body = direct(f"job-{number}")
            end = time.monotonic() + 10
            while True:
                try:
                    status = http.post("/v1/jobs", json=body).status_code
                except httpx.RemoteProtocolError:
                    status = 502
                if status != 502 or time.monotonic() > end:
                    return status

        statuses = Counter(pool.map(place, range(count)))

    assert set(statuses) <= {200, 201}, statuses
    assert shards.holding("n1") == count


def holders(ports: list[int]) -> list[int]:
    """Those of these local ports on which a placement has arrived that nobody has read; a health check is shorter."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    established = [line for line in lines if line[3] == "01" and int(line[4].partition(":")[2], 16) > 1_000]
    return [port for line in established if (port := int(line[1].rpartition(":")[2], 16)) in ports]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="there is no /proc/net/tcp to look into")
@pytest.mark.parametrize(("headers", "status", "jobs"), [({}, 502, 0), ({"idempotency-key": "j1"}, 201, 1)])
@each_balancer
def test_a_job_is_sent_again_only_if_the_client_says_that_it_has_an_id(
    front: Front, shards: Shards, headers: dict[str, str], status: int, jobs: int
) -> None:
    register(shards, "n1", "a", slots=10)
    for replica in front.replicas:
        replica.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        body = {"requires": ["a"], "deliver": "direct", "id": "j1", "payload": "x" * 2_000}
        sent = pool.submit(httpx.post, f"{front.url}/v1/jobs", json=body, headers=headers, timeout=30)
        wait_until(lambda: holders(front.ports), "a replica holds the request")
        doomed = front.ports.index(holders(front.ports)[0])
        front.replicas[doomed].kill()
        for replica in front.replicas:
            replica.send_signal(signal.SIGCONT)
        assert sent.result(20).status_code == status
    assert shards.holding("n1") == jobs


@each_balancer
def test_events_come_through_one_by_one_and_a_client_resumes_at_another_replica(front: Front, shards: Shards) -> None:
    def happen(job: str) -> str:
        stored: Any = shards.redis.xadd("fleet:{0}:events", {"kind": "job_failed", "job": job, "tenant": "default"})
        return str(stored.decode())

    def heard(response: httpx.Response) -> Iterator[str]:
        return (line.removeprefix("id: ") for line in response.iter_lines() if line.startswith("id: "))

    url = f"{front.url}/v1/events"
    with httpx.stream("GET", url, timeout=20) as response:
        assert response.status_code == 200
        ids = heard(response)
        for number in range(3):
            # each is here before the next one happens: nothing is held back
            last, since = happen(f"0.{number}"), time.monotonic()
            assert next(ids) == last
            assert time.monotonic() - since < 1
    missed = happen("0.missed")
    front.replicas[0].kill()
    for _ in range(3):
        with httpx.stream("GET", url, headers={"last-event-id": last}, timeout=20) as response:
            assert next(heard(response)) == missed


@each_balancer
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_rolling_restart_under_steady_load_fails_no_request(
    front: Front, balancer: str, shards: Shards, record_property: Callable[[str, object], None]
) -> None:
    """Each replica is restarted in turn. A try that fails is made again with the same id, for five seconds."""
    register(shards, "n1", "a", slots=1_000_000)
    over = threading.Event()
    tries: Counter[str] = Counter()
    places: list[int] = []
    failed: list[str] = []

    def caller(number: int) -> None:
        with httpx.Client(base_url=front.url, timeout=30) as http:
            sent = 0
            while not over.wait(0.02):
                job = f"job-{number}-{sent}"
                sent += 1
                if not placed(http, job):
                    failed.append(job)
            places.append(sent)

    def placed(http: httpx.Client, job: str) -> bool:
        body = direct(job)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            try:
                said = str(http.post("/v1/jobs", json=body, headers={"idempotency-key": job}).status_code)
            except httpx.TransportError as error:
                said = type(error).__name__
            tries[said] += 1
            if said in {"200", "201"}:
                return True
        return False

    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(caller, number) for number in range(8)]
        try:
            for number in range(3):
                before = tries.total()
                front.restart(number)
                assert tries.total() - before > 20, "the load went on"
        finally:
            over.set()
        for call in callers:
            call.result(30)

    again = tries.total() - sum(places)
    figure = f"{balancer}: {sum(places)} requests over 3 restarts, {again} tried again by the client {dict(tries)}"
    record_property("figure", f"{figure}, failed after retries: {len(failed)}")
    assert failed == []
    assert shards.holding("n1") == sum(places), "each id has one lease"
