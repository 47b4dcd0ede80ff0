"""Looking for the cause, restarts and upgrades: the runbooks of every day."""

import json
import threading
from collections.abc import Callable

import httpx
import pytest
import redis

from scheduler.dev.server import EmbeddedServer
from scheduler.store.library import read_library
from tests.e2e.conftest import fcall, free_ports_in_a_row, place, register, wait_until
from tests.operations.conftest import Open
from tests.operations.runbook import ended
from tests.sharded import Shards

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
Fresh = Callable[..., EmbeddedServer]
# this machine does other work too, and a node over its thresholds takes no job
AT_EASE = ("--cpu-max", "100", "--mem-max", "100")


def loaded(server: EmbeddedServer, code: str | None = None) -> redis.Redis:
    client = redis.Redis(port=server.port, socket_timeout=10)
    client.execute_command("FUNCTION", "LOAD", "REPLACE", code or read_library().code)
    return client


def revised(revision: int) -> str:
    library = read_library()
    return library.code.replace(f"REVISION = 1, {library.revision}\n", f"REVISION = 1, {revision}\n")


def readiness(url: str) -> str:
    """What /readyz says, or nothing while nobody listens."""
    try:
        return httpx.get(f"{url}/readyz", timeout=2).text
    except httpx.HTTPError:
        return ""


def is_ready(url: str) -> bool:
    return readiness(url) == "ready\n"


def test_each_step_of_the_search_names_its_cause(open_book: Open, fresh_server: Fresh, replica_port: int) -> None:
    server = fresh_server()
    with open_book("## Nothing is placed", server.port, server.url) as book:
        book.also("serve", "--port", str(replica_port))
        url = f"http://127.0.0.1:{replica_port}"
        wait_until(lambda: readiness(url), "it listens", 30)
        assert "fleet library load" in book.play("curl -s http")
        book.play(".venv/bin/fleet library status", status=1)
        with loaded(server) as client:
            wait_until(lambda: is_ready(url), "the replica is ready", 30)
            assert book.play("curl -s http") == "ready\n"
            book.play(".venv/bin/fleet library status")
            register(Shards(client), "asr-1", "asr:zh", slots=1)
            fcall(Shards(client), "node_mark", "asr-1", "cordon")
            told = book.play(".venv/bin/fleet explain", status=1)
            assert told.startswith("unavailable")
            assert "cordoned 1" in told
            book.play("curl -s -X POST")
            assert book.play(".venv/bin/fleet explain").startswith("placeable")
            fcall(Shards(client), "shard_freeze", "freeze")
            assert "True" in book.play(".venv/bin/fleet shard list")
            with httpx.Client(base_url=url, timeout=10) as http:
                assert place(http, "asr:zh").status_code == 503
                book.play(".venv/bin/fleet shard thaw")
                assert "True" not in book.play(".venv/bin/fleet shard list")
                wait_until(lambda: place(http, "asr:zh").status_code == 201, "jobs are placed again")
            assert "full 1" in book.play(".venv/bin/fleet explain", status=1)
            assert "default" in book.play(".venv/bin/fleet pools")
            assert "asr-1" in book.play(".venv/bin/fleet nodes")
            book.play(".venv/bin/fleet events")
            # what a refused write is counted under
            client.config_set("maxmemory", 1)
            assert "OOM" not in book.play("redis-cli INFO errorstats")
            with httpx.Client(base_url=url, timeout=10) as http:
                assert place(http, "asr:zh", id="refused").status_code == 503
            assert "errorstat_OOM" in book.play("redis-cli INFO errorstats")


def test_replicas_are_restarted_one_by_one_and_no_request_is_lost(
    open_book: Open, fresh_server: Fresh, replica_port: int
) -> None:
    server = fresh_server()
    with (
        loaded(server) as client,
        open_book("## Rolling restart of replicas", server.port, server.url) as book,
    ):
        register(Shards(client), "n1", "work", slots=100_000)
        other = free_ports_in_a_row(1)
        first = book.also("serve", "--port", str(replica_port))
        book.also("serve", "--port", str(other))
        urls = [f"http://127.0.0.1:{port}" for port in (replica_port, other)]
        wait_until(lambda: all(map(is_ready, urls)), "both are ready", 30)
        placed, failed, stopping = set[str](), list[str](), threading.Event()

        def balance() -> None:
            """Ask the first, and the other where the first cannot be reached, as a balancer does."""
            number = 0
            while not stopping.is_set():
                job = f"job-{number}"
                for url in urls:
                    try:
                        body = {"requires": ["work"], "deliver": "direct", "id": job, "ack_ms": 120_000}
                        if httpx.post(f"{url}/v1/jobs", json=body, timeout=5).status_code in {200, 201}:
                            placed.add(job)
                            break
                    except httpx.HTTPError:
                        continue
                else:
                    failed.append(job)
                number += 1

        asking = threading.Thread(target=balance)
        asking.start()
        try:
            wait_until(lambda: len(placed) > 20, "there is load")
            book.environ["REPLICA"] = str(first.pid)
            book.play("kill -TERM")
            book.play("until ! curl")
            assert ended(first) in {0, -15}
            book.begin(".venv/bin/fleet serve")
            assert book.play("until curl").endswith("ready\n")
            so_far = len(placed)
            wait_until(lambda: len(placed) > so_far + 20, "there is load after it")
        finally:
            stopping.set()
            asking.join(20)
        assert failed == []
        assert client.zcard("fleet:{0}:node:n1:leases") == len(placed)


def test_nodes_are_restarted_and_no_job_loses_its_only_attempt(
    open_book: Open, fresh_server: Fresh, replica_port: int
) -> None:
    server = fresh_server()
    with (
        loaded(server) as client,
        open_book("## Rolling restart of nodes", server.port, server.url) as book,
    ):
        url = f"http://127.0.0.1:{replica_port}"
        book.also("serve", "--port", str(replica_port))
        work = ("--slots", "4", "--capabilities", "asr:zh", "--demo", *AT_EASE)
        first, _ = (book.also("node", "run", "--id", name, *work) for name in ("asr-1", "asr-2"))
        wait_until(lambda: client.zcard("fleet:{0}:nodes") == 2 and is_ready(url), "all are there", 30)
        jobs = [f"job-{number}" for number in range(24)]
        with httpx.Client(base_url=url, timeout=30) as http:
            for job in jobs:
                body = {"requires": ["asr:zh"], "id": job, "wait_ms": 30_000, "max_attempts": 1}
                assert http.post("/v1/jobs", json=body).status_code in {201, 202}
            book.environ["NODE"] = str(first.pid)
            book.play("kill -TERM")
            book.play("until ! .venv/bin/fleet nodes")
            assert ended(first) == 0
            again = book.begin(".venv/bin/fleet node run")
            assert "asr-1" in book.play("until .venv/bin/fleet nodes")
            assert again.poll() is None
            for job in jobs:
                done = http.get(f"/v1/jobs/default:{job}?wait_ms=20000").json()["job"]
                assert done["state"] == "succeeded", done
        assert "node_lost" not in book.play(".venv/bin/fleet events")


def test_the_library_is_upgraded_under_a_running_replica_and_never_goes_back(
    open_book: Open, fresh_server: Fresh, replica_port: int
) -> None:
    server = fresh_server()
    ours = read_library().revision
    with (
        loaded(server, revised(ours - 1)) as client,
        open_book("## Upgrade", server.port, server.url) as book,
    ):
        book.play(".venv/bin/fleet library status", status=1)
        assert f"revision {ours} loaded" in book.play(".venv/bin/fleet library load")
        book.play(".venv/bin/fleet library status")
        book.also("serve", "--port", str(replica_port))
        url = f"http://127.0.0.1:{replica_port}"
        wait_until(lambda: is_ready(url), "the replica is ready", 30)
        register(Shards(client), "n1", "work")
        with httpx.Client(base_url=url, timeout=10) as http:
            assert place(http, "work").status_code == 201
            # a newer version has loaded its own meanwhile; this one is the old program from now on
            client.execute_command("FUNCTION", "LOAD", "REPLACE", revised(ours + 1))
            assert place(http, "work").status_code == 201
            book.play(".venv/bin/fleet library load", status=1)
            book.play(".venv/bin/fleet library status")
            assert client.execute_command("FCALL", "fleet1_library_read", 1, "fleet:{0}")[2] == ours + 1
            assert is_ready(url)
            assert json.loads(http.get("/v1/cluster").text)["nodes"]["ready"] == 1
