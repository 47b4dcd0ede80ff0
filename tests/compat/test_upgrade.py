"""The previous release beside today's on one fleet: each order in which a deployment may upgrade its parts.

Replicas and agents of 0.1.0 run from the wheel in this folder. Only one shard: that is all which 0.1.0 knows.
"""

import asyncio
import json
import re
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

from scheduler.dev.load import wait_ready
from scheduler.dev.process import stop
from scheduler.dev.server import EmbeddedServer, free_port
from tests.compat.releases import Release, previous, todays
from tests.e2e.conftest import wait_until

pytestmark = pytest.mark.timeout(120)

Fresh = Callable[..., EmbeddedServer]


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return previous(tmp_path_factory.mktemp("previous"))


@pytest.fixture(scope="module")
def new(old: Release, tmp_path_factory: pytest.TempPathFactory) -> Release:
    return todays(tmp_path_factory.mktemp("todays"), old)


class Fleet:
    """Processes of both releases on one server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.started: list[subprocess.Popen[bytes]] = []
        self.http = httpx.Client(timeout=30)

    def load(self, release: Release) -> "subprocess.CompletedProcess[str]":
        return release.fleet("library", "load", "--redis-url", self.url)

    def replica(self, release: Release, *, ready: bool = True) -> str:
        port = free_port()
        self.started.append(release.start(["serve", "--redis-url", self.url, "--port", str(port)]))
        url = f"http://127.0.0.1:{port}"
        if ready:
            asyncio.run(wait_ready([url], 30))
        return url

    def node(self, release: Release, node: str, slots: int = 4) -> "subprocess.Popen[bytes]":
        words = [
            "--id",
            node,
            "--slots",
            str(slots),
            "--capabilities",
            f"gpu {node}",
            "--demo",
            "--redis-url",
            self.url,
        ]
        limits = ["--cpu-max", "100", "--mem-max", "100"]
        self.started.append(release.start(["node", "run", *words, *limits]))
        return self.started[-1]

    def place(self, url: str, wanted: str = "gpu", **more: object) -> str:
        body = {"requires": [wanted], "wait_ms": 30_000, "payload": {"x": 1}} | more
        answer = self.http.post(f"{url}/v1/jobs", json=body)
        assert answer.status_code in {201, 202}, answer.text
        return str(answer.json()["job"]["id"])

    def ended(self, url: str, job: str) -> dict[str, Any]:
        """The job once it has ended."""
        told: dict[str, Any] = self.http.get(f"{url}/v1/jobs/{job}?wait_ms=20000").json()["job"]
        return told

    def nodes(self, url: str) -> set[str]:
        """The ids of the ready nodes."""
        told = self.http.get(f"{url}/v1/nodes").json()["nodes"]
        return {node["id"] for node in told if node["state"] == "ready"}


@pytest.fixture
def fleet(fresh_server: Fresh) -> Iterator[Fleet]:
    running = Fleet(fresh_server().url)
    yield running
    running.http.close()
    stop(running.started)


def test_the_releases_are_those_that_they_are_said_to_be(old: Release, new: Release) -> None:
    for release in (old, new):
        done = release.run("import scheduler; print(scheduler.__file__)")
        assert done.stdout.strip() == str(release.folder / "scheduler" / "__init__.py"), done.stderr
    assert old.numbers[0] == new.numbers[0], "the ABI"
    assert old.revision < new.revision


def test_the_previous_stubs_get_the_same_answers_from_both_libraries(
    old: Release, new: Release, fresh_server: Fresh
) -> None:
    code = Path(__file__).with_name("stub_calls.py").read_text("utf-8")
    answers = []
    for release in (old, new):
        url = fresh_server().url
        assert release.fleet("library", "load", "--redis-url", url).returncode == 0
        done = old.run(code, url)
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    before, after = answers
    assert before["from"].startswith(str(old.folder))
    assert before["missing"] == []
    assert after["told"] == before["told"]
    calls, revisions = sum(map(len, before["told"].values())), [old.revision, new.revision]
    print(f"{len(before['told'])} stubs in {calls} calls: the same answers from revisions {revisions}")


@pytest.mark.slow
def test_the_previous_replica_and_node_work_on_todays_library(old: Release, new: Release, fleet: Fleet) -> None:
    assert fleet.load(new).returncode == 0
    url = fleet.replica(old)
    first = fleet.node(old, "n1", slots=2)
    wait_until(lambda: fleet.nodes(url) == {"n1"}, "the node is there", 20)
    assert [fleet.ended(url, job)["state"] for job in [fleet.place(url) for _ in range(12)]] == ["succeeded"] * 12
    with httpx.Client(base_url=url, timeout=20) as http:
        assert http.put("/v1/pools/gold", json={"selector": {"capabilities": ["gpu"]}, "tenants": ["*"]}).is_success
        sticky = {"session": "s1", "affinity": "sticky", "pool": "gold"}
        assert fleet.ended(url, fleet.place(url, **sticky))["pool"] == "gold"
        batch = {"jobs": [{"requires": ["gpu"], "id": f"mine-{n}", "wait_ms": 9_000} for n in range(6)]}
        assert http.post("/v1/jobs:batch", json=batch).status_code == 200
        # 503 in the first ten seconds of the data: nodes may still be to come
        assert http.post("/v1/jobs", json={"requires": ["tpu"]}).status_code in {422, 503}
        assert http.post("/v1/explain", json={"requires": ["gpu"]}).json()["class"] in {"placeable", "overloaded"}
        assert http.get("/v1/cluster").json()["revision"] == new.revision
        for command in ("nodes", "pools", "jobs", "events"):
            done = old.fleet(command, "--redis-url", fleet.url)
            assert done.returncode == 0, done.stderr
        second = fleet.node(old, "n2")
        wait_until(lambda: fleet.nodes(url) == {"n1", "n2"}, "a second node", 20)
        jobs = [fleet.place(url) for _ in range(6)]
        second.kill()
        assert {fleet.ended(url, job)["state"] for job in jobs} == {"succeeded"}
    first.terminate()
    assert first.wait(20) == 0


@pytest.mark.slow
def test_todays_replica_waits_for_its_library_and_breaks_nothing(old: Release, new: Release, fleet: Fleet) -> None:
    assert fleet.load(old).returncode == 0
    first = fleet.replica(old)
    fleet.node(old, "n1")
    wait_until(lambda: fleet.nodes(first) == {"n1"}, "the node is there", 20)
    second = fleet.replica(new, ready=False)

    def said() -> str:
        try:
            answer = fleet.http.get(f"{second}/readyz", timeout=5)
        except httpx.TransportError:
            return ""
        return answer.text if answer.status_code == 503 else f"it is {answer.text}"

    wait_until(lambda: "fleet library load" in said(), "it is not ready and says what to do", 20)
    assert re.search(rf"revision {new.revision} or higher", said())
    early = fleet.http.post(f"{second}/v1/jobs", json={"requires": ["gpu"]}, timeout=20)
    assert early.status_code == 503, early.text
    # what was begun on the old library is ended on the new one
    assert [fleet.ended(first, fleet.place(first))["state"] for _ in range(5)] == ["succeeded"] * 5
    direct = fleet.http.post(f"{first}/v1/jobs", json={"requires": ["gpu"], "deliver": "direct"}).json()["job"]
    waiting = fleet.place(first, exclude=["n1"], wait_ms=60_000)
    assert "fleet library load" in said(), "still not ready"

    assert fleet.load(new).returncode == 0
    begun = time.monotonic()
    asyncio.run(wait_ready([second], 20))
    print(f"ready {time.monotonic() - begun:.1f} s after the library was loaded")
    finish = {"fence": direct["fence"], "outcome": "succeeded"}
    assert fleet.http.post(f"{second}/v1/jobs/{direct['id']}/finish", json=finish).is_success
    fleet.node(new, "n2")
    assert fleet.ended(first, waiting)["node"]["id"] == "n2"
    for url in (first, second):
        wait_until(lambda url=url: fleet.nodes(url) == {"n1", "n2"}, "both nodes", 20)  # type: ignore[misc]
        for token in ("n1", "n2"):
            assert fleet.ended(url, fleet.place(url, token))["node"]["id"] == token


@pytest.mark.slow
def test_loading_todays_library_under_load_costs_no_request(old: Release, new: Release, fleet: Fleet) -> None:
    assert fleet.load(old).returncode == 0
    urls = [fleet.replica(old) for _ in range(2)]
    for node in ("n1", "n2"):
        fleet.node(old, node, slots=64)
    wait_until(lambda: fleet.nodes(urls[0]) == {"n1", "n2"}, "the nodes are there", 20)
    statuses: Counter[int] = Counter()
    jobs: list[str] = []
    over = threading.Event()

    def send(url: str) -> None:
        with httpx.Client(base_url=url, timeout=20) as http:
            while not over.is_set():
                answer = http.post("/v1/jobs", json={"requires": ["gpu"], "wait_ms": 20_000})
                statuses[answer.status_code] += 1
                jobs.append(answer.json()["job"]["id"])
                time.sleep(0.01)

    with ThreadPoolExecutor(6) as pool:
        sending = [pool.submit(send, urls[n % 2]) for n in range(6)]
        try:
            wait_until(lambda: statuses.total() > 100, "load", 20)
            loaded = fleet.load(new)
            assert loaded.returncode == 0, loaded.stderr
            at = statuses.total()
            wait_until(lambda: statuses.total() > at + 200, "load goes on", 20)
            # and a replica of today joins the load
            urls.append(fleet.replica(new))
            sending.append(pool.submit(send, urls[2]))
            at = statuses.total()
            wait_until(lambda: statuses.total() > at + 100, "load goes on", 20)
        finally:
            over.set()
        for one in sending:
            one.result(30)
    assert set(statuses) <= {201, 202}, statuses
    assert len(set(jobs)) == len(jobs)
    states = Counter(fleet.ended(urls[n % 3], job)["state"] for n, job in enumerate(jobs))
    print(f"{statuses.total()} requests around the change: {dict(statuses)}, jobs {dict(states)}, failed: 0")
    assert set(states) == {"succeeded"}


def test_the_previous_release_does_not_take_todays_library_back(old: Release, new: Release, fleet: Fleet) -> None:
    assert fleet.load(old).returncode == 0
    assert fleet.load(new).returncode == 0
    back = fleet.load(old)
    assert back.returncode == 1
    assert f"the server holds revision {new.revision} of fleet1" in back.stderr
    assert "it never goes back" in back.stderr
    for release in (old, new):
        status = release.fleet("library", "status", "--redis-url", fleet.url)
        assert status.returncode == 0, status.stdout
