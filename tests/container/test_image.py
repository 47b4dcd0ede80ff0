"""The whole way of a job on the Redis image that users run, started by testcontainers."""

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator

import httpx
import pytest
import redis
from testcontainers.community.redis import RedisContainer

from scheduler.dev.load import wait_ready
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import free_port
from tests.container.engine import silence
from tests.e2e.conftest import FLEET, P, wait_until

pytestmark = [pytest.mark.container, pytest.mark.timeout(120)]

IMAGE = os.environ.get("FLEET_TEST_IMAGE", "redis:7")
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "REDIS_"))}

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def container() -> Iterator[RedisContainer]:
    """The image with an append-only file, on a port that it keeps when it is started again."""
    if why := silence(IMAGE):
        pytest.skip(why)
    image = RedisContainer(IMAGE).with_bind_ports(6379, free_port())
    # the official image listens beyond the loopback without being told
    image.with_command("redis-server --appendonly yes --protected-mode no")
    with image as running:
        yield running


@pytest.fixture
def fleet() -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> "subprocess.Popen[bytes]":
        started.append(spawn_bound([FLEET, *words], environ=ENVIRON))
        return started[-1]

    yield start
    stop(started)


def test_jobs_run_on_the_image_and_a_killed_container_keeps_everything(
    container: RedisContainer, fleet: Start
) -> None:
    url = f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}"
    loaded = subprocess.run(
        [FLEET, "library", "load", "--redis-url", url], env=ENVIRON, capture_output=True, text=True, check=False
    )
    assert (loaded.returncode, loaded.stderr) == (0, "")
    port = free_port()
    fleet("serve", "--redis-url", url, "--port", str(port))
    asyncio.run(wait_ready([f"http://127.0.0.1:{port}"], 30))
    limits = ["--cpu-max", "100", "--mem-max", "100", "--ttl-ms", "30000"]
    node = ["node", "run", "--id", "n1", "--slots", "4", "--capabilities", "asr:zh", "--demo", *limits]
    agent = fleet(*node, "--redis-url", url)

    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=15) as http, redis.Redis.from_url(url) as plain:
        wait_until(lambda: http.get("/v1/nodes").json()["nodes"], "the node is there", 20)
        body = {"requires": ["asr:zh"], "payload": {"x": 1}, "wait_ms": 20_000}
        jobs = [http.post("/v1/jobs", json=body).json()["job"]["id"] for _ in range(20)]
        ended = [http.get(f"/v1/jobs/{job}?wait_ms=10000").json()["job"] for job in jobs]
        assert {job["state"] for job in ended} == {"succeeded"}
        direct = http.post("/v1/jobs", json={"requires": ["asr:zh"], "deliver": "direct"}).json()["job"]
        waiting = http.post("/v1/jobs", json={"requires": ["asr:zh"], "exclude": ["n1"], "wait_ms": 60_000})
        assert waiting.status_code == 202, waiting.text
        count = plain.dbsize()

        inner = container.get_wrapped_container()
        inner.kill()
        inner.wait(timeout=20)
        wait_until(lambda: http.get("/readyz").status_code == 503, "the replica says that Redis is away", 20)
        inner.start()
        wait_until(lambda: http.get("/readyz").status_code == 200, "the replica is ready by itself", 30)

        assert plain.dbsize() == count
        assert [http.get(f"/v1/jobs/{job}").json()["job"] for job in jobs] == ended
        waits = waiting.json()["job"]["id"]
        assert http.get(f"/v1/jobs/{waits}").json()["job"]["state"] == "pending"
        finish = {"fence": direct["fence"], "outcome": "succeeded", "result": "kept"}
        assert http.post(f"/v1/jobs/{direct['id']}/finish", json=finish).json() == {"outcome": "finished"}
        again = http.post("/v1/jobs", json=body).json()["job"]
        assert http.get(f"/v1/jobs/{again['id']}?wait_ms=10000").json()["job"]["node"]["id"] == "n1"
        assert plain.zcard(f"{P}:node:n1:leases") == 0
        print(f"{IMAGE}: {len(jobs)} jobs before it was killed, {count} keys after it")
    agent.terminate()
    assert agent.wait(40) == 0
