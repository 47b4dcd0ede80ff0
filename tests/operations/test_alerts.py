"""What people are woken for: the runbook of each alert shows the cause that it is for."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import httpx
import pytest
import redis

from tests.e2e.conftest import fcall, place, register, wait_until
from tests.operations.conftest import Open
from tests.operations.runbook import Runbook
from tests.operations.test_daily import Fresh, is_ready, loaded
from tests.sharded import Shards

P = "fleet:{0}"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
Stage = Callable[[str], AbstractContextManager[tuple[Runbook, redis.Redis, httpx.Client]]]


@pytest.fixture
def stage(open_book: Open, fresh_server: Fresh, replica_port: int) -> Stage:
    """A server with a replica, the runbook for them, and clients of both."""

    @contextmanager
    def begun(heading: str) -> Iterator[tuple[Runbook, redis.Redis, httpx.Client]]:
        server = fresh_server()
        url = f"http://127.0.0.1:{replica_port}"
        with (
            loaded(server) as client,
            httpx.Client(base_url=url, timeout=10) as http,
            open_book(heading, server.port, server.url) as book,
        ):
            book.also("serve", "--port", str(replica_port))
            wait_until(lambda: is_ready(url), "the replica is ready", 30)
            yield book, client, http

    return begun


def lapse(client: redis.Redis, *nodes: str) -> None:
    """Their heartbeats are long over."""
    client.zadd(f"{P}:nodes", dict.fromkeys(nodes, 1))


def known(http: httpx.Client, nodes: int) -> bool:
    """Whether the snapshot has so many."""
    return f'fleet_snapshot_nodes{{shard="0"}} {float(nodes)}' in http.get("/metrics").text


def test_lost_and_quarantined_nodes_are_named(stage: Stage) -> None:
    with stage("## Lost nodes") as (book, client, _):
        for name in ("asr-1", "asr-2"):
            register(Shards(client), name, "asr:zh")
        lapse(client, "asr-1")
        client.zadd(f"{P}:quarantined", {"asr-2": 10**15})
        wait_until(lambda: client.zcard(f"{P}:lost") == 1, "it is lost")
        assert "lost" in book.play(".venv/bin/fleet nodes")
        assert book.play("redis-cli ZRANGE 'fleet:{0}:lost'") == "asr-1\n"
        assert book.play("redis-cli ZRANGE 'fleet:{0}:quarantined'") == "asr-2\n"
        assert "asr-1" in book.play(".venv/bin/fleet events")
        register(Shards(client), "asr-1", "asr:zh")
        assert client.zcard(f"{P}:lost") == 0


def test_a_pause_of_reaping_is_seen_and_ends_when_nodes_are_back(stage: Stage) -> None:
    with stage("## Reaping paused") as (book, client, http):
        names = [f"asr-{number}" for number in range(12)]
        for name in names:
            register(Shards(client), name, "asr:zh")
        lapse(client, *names)
        wait_until(lambda: client.hexists(P, "paused_ms"), "reaping pauses")
        wait_until(lambda: 'fleet_reaping_paused{shard="0"} 1.0' in http.get("/metrics").text, "which is told")
        assert "reaping_paused" in book.play(".venv/bin/fleet events")
        assert book.play("redis-cli HGET").strip().isdigit()
        assert "connected_clients" in book.play("redis-cli INFO clients")
        assert "reaping pauses" in book.play(".venv/bin/fleet doctor")
        for name in names:
            register(Shards(client), name, "asr:zh")
        wait_until(lambda: not client.hexists(P, "paused_ms"), "the pause is over")
        wait_until(lambda: 'fleet_reaping_paused{shard="0"} 0.0' in http.get("/metrics").text, "and that is told")
        assert client.zcard(f"{P}:lost") == 0


def test_a_pool_that_is_full_or_cordoned_says_so(stage: Stage) -> None:
    with stage("## A pool without a free slot") as (book, client, http):
        fcall(Shards(client), "pool_put", "gold", '{"selector": {"all": true}, "tenants": ["*"]}')
        register(Shards(client), "asr-1", "asr:zh", slots=1)
        fcall(Shards(client), "node_mark", "asr-1", "cordon")
        assert "gold" in book.play(".venv/bin/fleet pools")
        assert "cordoned" in book.play(".venv/bin/fleet nodes")
        assert book.play("redis-cli SINTERCARD") == "0\n"
        assert "cordoned 1" in book.play(".venv/bin/fleet explain", status=1)
        full = 'fleet_pool_free_slots{pool="gold"} 0.0'
        wait_until(lambda: full in http.get("/metrics").text, "the metric says so, too")
        book.play("curl -s -X POST")
        assert book.play(".venv/bin/fleet explain").startswith("placeable")
        assert place(http, "asr:zh").status_code == 201
        assert "full 1" in book.play(".venv/bin/fleet explain", status=1)


def test_a_job_that_waits_is_found_explained_and_cancelled(stage: Stage) -> None:
    with stage("## Jobs that wait too long") as (book, client, http):
        register(Shards(client), "asr-1", "asr:zh", slots=1)
        assert place(http, "asr:zh", ack_ms=100_000).status_code == 201
        assert place(http, "asr:zh", id="order-7", wait_ms=100_000).status_code == 202
        book.play(".venv/bin/fleet jobs")
        assert "asr:zh" in book.play("redis-cli HGETALL")
        assert book.play("redis-cli ZCARD") == "1\n"
        assert "full 1" in book.play(".venv/bin/fleet explain", status=1)
        book.play(".venv/bin/fleet jobs cancel")
        assert book.play("redis-cli ZCARD") == "0\n"


def test_a_frozen_shard_makes_snapshots_old(stage: Stage, replica_port: int) -> None:
    with stage("## Old snapshots") as (book, client, http):
        register(Shards(client), "asr-1", "asr:zh")
        fcall(Shards(client), "shard_freeze", "freeze")
        wait_until(lambda: not is_ready(f"http://127.0.0.1:{replica_port}"), "the replica notices", 20)
        assert "old" in book.play("curl -s http://127.0.0.1:8080/readyz")
        age_ms = book.play("curl -s http://127.0.0.1:8080/metrics").rpartition(" ")[2]
        assert float(age_ms) > 2_000
        assert "True" in book.play(".venv/bin/fleet shard list")
        book.play("redis-cli SLOWLOG")
        fcall(Shards(client), "shard_freeze", "thaw")
        wait_until(lambda: known(http, 1), "it follows again", 20)
        book.play(".venv/bin/fleet mirror diff")


def test_conflicts_are_counted_and_the_snapshot_is_compared(stage: Stage) -> None:
    with stage("## Many conflicts") as (book, client, http):
        register(Shards(client), "asr-1", "asr:zh")
        assert place(http, "asr:zh").status_code == 201
        told = book.play("curl -s http://127.0.0.1:8080/metrics")
        assert "fleet_conflicts_total 0.0" in told
        assert "fleet_placements_total 1.0" in told
        wait_until(lambda: known(http, 1), "the replica has seen it")
        assert 'pool="default"' in book.play("curl -s http://127.0.0.1:8080/metrics | grep '^fleet_pool")
        book.play(".venv/bin/fleet mirror diff")


def test_a_slow_replica_is_looked_at(stage: Stage) -> None:
    with stage("## Slow or failing replicas") as (book, client, http):
        register(Shards(client), "asr-1", "asr:zh")
        assert place(http, "asr:zh").status_code == 201
        told = book.play("curl -s")
        assert "fleet_sheds_total 0.0" in told
        assert 'route="/v1/jobs",status="201"} 1.0' in told
        book.play("redis-cli SLOWLOG")
        book.play("redis-cli LATENCY")
        assert "cmdstat_fcall" in book.play("redis-cli INFO commandstats")
