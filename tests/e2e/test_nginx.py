"""deploy/nginx/fleet.conf in a real nginx, in front of three real replicas, one of which is killed."""

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import free_port
from tests.e2e.conftest import FLEET, register, wait_until
from tests.sharded import Shards

CONF = Path(__file__).parents[2] / "deploy" / "nginx" / "fleet.conf"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

_MAIN = """
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/fleet.conf;
}}
"""


def prepared(folder: Path, listen: int, upstream: list[int]) -> list[str]:
    """The configuration as it is deployed, on ports and in a folder of this test; the command that runs it."""
    text = CONF.read_text("utf-8")
    for old, new in zip((8000, 8080, 8081, 8082), (listen, *upstream), strict=True):
        assert text.count(f"127.0.0.1:{old}") == 1
        text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    (folder / "fleet.conf").write_text(text, "utf-8")
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder), "utf-8")
    return [str(NGINX), "-p", str(folder), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]


@dataclass
class Front:
    """nginx and the replicas behind it."""

    url: str
    replicas: list["subprocess.Popen[bytes]"]
    ports: list[int]


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def front(redis_url: str, tmp_path: Path) -> Iterator[Front]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    listen, *ports = (free_port() for _ in range(4))
    started: list[subprocess.Popen[bytes]] = []
    try:
        for port in ports:
            argv: list[str | Path] = [FLEET, "serve", "--redis-url", redis_url, "--port", str(port)]
            started.append(spawn_bound(argv, environ=environ))
        for port in ports:
            wait_until(partial(answers, f"http://127.0.0.1:{port}/readyz"), f"replica on {port}", 30)
        # its workers go with their master, which a SIGKILL would not let
        started.append(spawn_bound(prepared(tmp_path, listen, ports), death_signal=15, stderr=subprocess.DEVNULL))
        url = f"http://127.0.0.1:{listen}"
        wait_until(lambda: answers(f"{url}/v1/cluster"), "nginx")
        yield Front(url, started[:3], ports)
    finally:
        stop(started)


def test_nginx_takes_the_configuration(tmp_path: Path) -> None:
    argv = prepared(tmp_path, free_port(), [free_port() for _ in range(3)])
    done = subprocess.run([*argv, "-t"], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


def test_a_job_goes_its_whole_way_through_nginx(front: Front, shards: Shards) -> None:
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
        assert http.post("/v1/jobs", content=b" " * (1 << 21)).status_code == 413
        assert http.get("/metrics").status_code == 404


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
            body = {"requires": ["a"], "deliver": "direct", "id": job}
            try:
                return http.post("/v1/jobs", json=body, headers={"idempotency-key": job}).status_code
            except httpx.RemoteProtocolError:
                # killed between the head of an answer and its body: nginx has passed on the head and cannot ask again
                broken.append(job)
                return http.post("/v1/jobs", json=body, headers={"idempotency-key": job}).status_code

        statuses.update(pool.map(place, range(count)))

    assert front.replicas[0].wait(5) == -9
    assert len(broken) <= 16, "no more than were under way"
    assert set(statuses) <= {200, 201}, statuses
    assert statuses.total() == count
    assert shards.holding("n1") == count


def test_a_client_may_send_an_id_again_itself(front: Front, shards: Shards) -> None:
    register(shards, "n1", "a", slots=100_000)
    count, killed_at = 300, 100

    with httpx.Client(base_url=front.url, timeout=30) as http, ThreadPoolExecutor(16) as pool:

        def place(number: int) -> int:
            if number == killed_at:
                front.replicas[1].kill()
            body = {"requires": ["a"], "deliver": "direct", "id": f"job-{number}"}
            end = time.monotonic() + 10
            while True:
                status = http.post("/v1/jobs", json=body).status_code
                if status != 502 or time.monotonic() > end:
                    return status

        statuses = Counter(pool.map(place, range(count)))

    assert set(statuses) <= {200, 201}, statuses
    assert shards.holding("n1") == count


def holders(ports: list[int]) -> list[int]:
    """Those of these local ports on which a request has arrived that nobody has read."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    established = [line for line in lines if line[3] == "01" and int(line[4].partition(":")[2], 16) > 0]
    return [port for line in established if (port := int(line[1].rpartition(":")[2], 16)) in ports]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="there is no /proc/net/tcp to look into")
@pytest.mark.parametrize(("headers", "status", "jobs"), [({}, 502, 0), ({"idempotency-key": "j1"}, 201, 1)])
def test_nginx_sends_a_job_again_only_if_the_client_says_that_it_has_an_id(
    front: Front, shards: Shards, headers: dict[str, str], status: int, jobs: int
) -> None:
    register(shards, "n1", "a", slots=10)
    for replica in front.replicas:
        replica.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        body = {"requires": ["a"], "deliver": "direct", "id": "j1"}
        sent = pool.submit(httpx.post, f"{front.url}/v1/jobs", json=body, headers=headers, timeout=30)
        wait_until(lambda: holders(front.ports), "a replica holds the request")
        doomed = front.ports.index(holders(front.ports)[0])
        front.replicas[doomed].kill()
        for replica in front.replicas:
            replica.send_signal(signal.SIGCONT)
        told = sent.result(20)
        assert told.status_code == status, told.text
    assert shards.holding("n1") == jobs


def test_events_come_through_nginx_one_by_one_and_a_client_resumes_at_another_replica(
    front: Front, shards: Shards
) -> None:
    def happen(job: str) -> str:
        stored: Any = shards.redis.xadd("fleet:{0}:events", {"kind": "job_failed", "job": job, "tenant": "default"})
        return str(stored.decode())

    def heard(response: httpx.Response) -> Iterator[str]:
        return (line.removeprefix("id: ") for line in response.iter_lines() if line.startswith("id: "))

    def place_in_the_first(told: str) -> str:
        """Of several shards an id names the place in each, `0:<place>,…`."""
        return told.partition(",")[0].removeprefix("0:")

    url = f"{front.url}/v1/events"
    with httpx.stream("GET", url, timeout=20) as response:
        assert response.status_code == 200
        ids = heard(response)
        for number in range(3):
            # each is here before the next one happens: nothing is held back
            happened = happen(f"0.{number}")
            last = next(ids)
            assert place_in_the_first(last) == happened
    missed = happen("0.missed")
    front.replicas[0].kill()
    for _ in range(3):
        with httpx.stream("GET", url, headers={"last-event-id": last}, timeout=20) as response:
            assert place_in_the_first(next(heard(response))) == missed
