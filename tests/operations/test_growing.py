"""From one server to a cluster, another primary, another number of shards."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import redis

from scheduler.dev.cluster import EmbeddedCluster, ask
from scheduler.dev.cluster import wait_until as until
from scheduler.dev.load import wait_ready
from scheduler.dev.server import EmbeddedServer
from tests.e2e.conftest import free_ports_in_a_row, wait_until
from tests.integration.store.conftest import KINDS, choice_of
from tests.operations.conftest import Open
from tests.operations.runbook import ended
from tests.operations.test_daily import AT_EASE, Fresh, loaded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
POOLS = '[pools.everyone]\nselector = { capabilities = ["asr:zh"] }\ntenants = ["*"]\n'


@pytest.fixture(params=KINDS)
def cluster(request: pytest.FixtureRequest) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(choice_of(request.param)) as running:
        yield running


def node(name: str) -> tuple[str, ...]:
    return ("node", "run", "--id", name, "--slots", "4", "--capabilities", "asr:zh", "--demo", *AT_EASE)


def place_many(url: str, prefix: str, count: int) -> list[str]:
    jobs = [f"{prefix}-{number}" for number in range(count)]
    for job in jobs:
        body = {"requires": ["asr:zh"], "id": job, "wait_ms": 60_000}
        told = httpx.post(f"{url}/v1/jobs", json=body, timeout=10)
        assert told.status_code in {201, 202}, told.text
    return jobs


def all_succeed(url: str, jobs: list[str]) -> None:
    for job in jobs:
        told = httpx.get(f"{url}/v1/jobs/default:{job}?wait_ms=30000", timeout=60).json()["job"]
        assert told["state"] == "succeeded", told


def test_a_fleet_goes_over_to_a_cluster_node_by_node(
    cluster: EmbeddedCluster, fresh_server: Fresh, open_book: Open, replica_port: int, tmp_path: Path
) -> None:
    old = fresh_server()
    pools, new_port = tmp_path / "pools.toml", free_ports_in_a_row(1)
    pools.write_text(POOLS, "utf-8")
    with (
        loaded(old) as client,
        open_book("## From one server to a cluster", old.port, old.url) as book,
    ):
        book.places |= {"pools.toml": str(pools), ":8081": f":{new_port}", "--port 8081": f"--port {new_port}"}
        book.environ["NEW"] = cluster.url
        book.also("serve", "--port", str(replica_port))
        here, there = (f"http://127.0.0.1:{port}" for port in (replica_port, new_port))
        first, second = book.also(*node("asr-1")), book.also(*node("asr-2"))
        asyncio.run(wait_ready([here], 30))
        wait_until(lambda: client.zcard("fleet:{0}:nodes") == 2, "both nodes are there", 30)

        assert "24 shards" in book.play(".venv/bin/fleet init")
        book.play(".venv/bin/fleet pools apply")
        book.play(".venv/bin/fleet library status")
        book.begin(".venv/bin/fleet serve")
        book.play("until curl")
        before = place_many(here, "before", 40)
        book.environ["NODE"] = str(first.pid)
        book.play("kill -TERM")
        book.play("until ! .venv/bin/fleet nodes")
        assert ended(first) == 0
        # the page's node has the thresholds of everybody; this machine is busy, so ours stands in for it below
        moved = book.begin(".venv/bin/fleet node run")
        assert "ready" in book.play("until .venv/bin/fleet nodes asr-1 --redis-url")
        moved.terminate()
        assert ended(moved) == 0
        # the snapshot may still have the one that left, and then its like would seem to be there
        wait_until(lambda: ready_nodes(there) == 0, "it has left", 30)
        book.also(*node("asr-1"), "--redis-url", cluster.url)
        wait_until(lambda: ready_nodes(there) == 1, "it is back", 30)
        after = place_many(there, "after", 10)
        all_succeed(there, after)
        all_succeed(here, before)
        assert book.play("redis-cli ZCARD 'fleet:{0}:pending'") == "0\n"
        assert book.play("redis-cli ZCARD 'fleet:{0}:leases'") == "0\n"
        second.terminate()
        assert ended(second) == 0
        book.also(*node("asr-2"), "--redis-url", cluster.url)
        wait_until(lambda: ready_nodes(there) == 2, "all are over", 30)
        assert "no node is registered" in book.play(".venv/bin/fleet nodes")
        book.play(".venv/bin/fleet shard list --redis-url")


def ready_nodes(url: str) -> int:
    """How many are ready and in the snapshot, too."""
    told = httpx.get(f"{url}/v1/cluster", timeout=10).json()
    return min(int(told["nodes"]["ready"]), int(told["snapshot"]["nodes"]))


def served_by(cluster: EmbeddedCluster, key: str) -> int:
    slot = int(ask(cluster.servers[0], "CLUSTER", "KEYSLOT", key))
    slots = ask(cluster.servers[0], "CLUSTER", "SLOTS")
    return next(int(primary[1]) for begin, end, primary, *_ in slots if begin <= slot <= end)


@pytest.fixture
def another(cluster: EmbeddedCluster) -> Iterator[EmbeddedServer]:
    """An empty server that may join."""
    with EmbeddedServer(cluster.servers[0].choice, args=cluster._options(1_000)) as server:
        yield server


def test_a_primary_more_is_given_a_shard_while_the_fleet_runs(
    cluster: EmbeddedCluster, another: EmbeddedServer, open_book: Open
) -> None:
    first = cluster.servers[0]
    with open_book("### Another primary", first.port, cluster.url) as book:
        book.places |= {
            "10.0.0.4:6379": f"127.0.0.1:{another.port}",
            "10.0.0.1:6379": f"127.0.0.1:{first.port}",
        }
        created = book.also("init", "--shards", "8")
        assert ended(created) == 0
        book.play("redis-cli --cluster add-node", timeout_s=60)
        until(lambda: b"cluster_known_nodes:4" in ask(first, "CLUSTER", "INFO"), "it has joined", 20)
        book.play(".venv/bin/fleet library load")
        book.play("until .venv/bin/fleet library status")
        told = book.play(".venv/bin/fleet shard move", timeout_s=60)
        assert f"to 127.0.0.1:{another.port}" in told
        until(lambda: served_by(cluster, "fleet:{36}") == another.port, "all know where it is", 20)
        assert "True" not in book.play(".venv/bin/fleet shard list")


def test_another_number_of_shards_takes_another_namespace(cluster: EmbeddedCluster, open_book: Open) -> None:
    with open_book("### Another number of shards", cluster.servers[0].port, cluster.url) as book:
        assert ended(book.also("init", "--shards", "8")) == 0
        with redis.RedisCluster(host="127.0.0.1", port=cluster.servers[0].port) as client:
            fields = ("by-hand", "endpoint", "http://n", "slots", 1, "capabilities", "work", "ttl_ms", 60_000)
            shard = client.execute_command("FCALL_RO", "fleet1_shard_find", 1, "fleet:{0}", "by-hand")[-1].decode()
            assert client.execute_command("FCALL", "fleet1_node_register", 1, shard, *fields)[0] == b"registered"
        assert ended(book.also("init", "--shards", "48")) == 2
        assert "48 shards" in book.play(".venv/bin/fleet init")
        assert len(book.play(".venv/bin/fleet shard list").splitlines()) == 49


def move_half(source: EmbeddedServer, target: EmbeddedServer, key: str) -> None:
    """What a move that is killed midway leaves: some keys are there, the shard's own among them, the others here."""
    names = [ask(server, "CLUSTER", "MYID").decode() for server in (source, target)]
    slot = int(ask(source, "CLUSTER", "KEYSLOT", key))
    ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
    ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
    keys = ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100)
    gone = {key.encode(), *keys[: len(keys) // 2]}
    assert len(gone) < len(keys)
    ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *gone)


def register_in(server: EmbeddedServer, shard: str, count: int) -> None:
    """So many nodes whose ids lead there."""
    found = 0
    for number in range(1_000):
        node = (f"n{number}", "endpoint", "http://n", "slots", 1, "capabilities", "work", "ttl_ms", 600_000)
        with suppress(redis.ResponseError):
            ask(server, "FCALL", "fleet1_node_register", 1, shard, *node)
            found += 1
        if found == count:
            return
    raise AssertionError("too few ids lead there")


@pytest.mark.parametrize("cluster", KINDS[:1], indirect=True)
def test_a_move_that_was_cut_off_is_taken_up(cluster: EmbeddedCluster, open_book: Open) -> None:
    with open_book("### A move that was cut off", cluster.servers[0].port, cluster.url) as book:
        assert ended(book.also("init", "--shards", "8")) == 0
        source = cluster.primary_of("fleet:{36}")
        target = next(server for server in cluster.servers if server is not source)
        book.places["10.0.0.4:6379"] = f"127.0.0.1:{target.port}"
        register_in(source, "fleet:{36}", 5)
        assert ended(book.also("shard", "freeze", "36")) == 0
        move_half(source, target, "fleet:{36}")
        assert "True" in book.play(".venv/bin/fleet shard list")
        assert "keys, frozen meanwhile" in book.play(".venv/bin/fleet shard move")
        told = book.play(".venv/bin/fleet shard list")
        assert "True" not in told
        assert re.search(r"^ *36 +5 ", told, re.MULTILINE)
        # killed before its last step
        assert ended(book.also("shard", "freeze", "36")) == 0
        assert book.play(".venv/bin/fleet shard move").startswith("it is there already, and frozen")
        assert "True" in book.play(".venv/bin/fleet shard list")
        book.play(".venv/bin/fleet shard thaw")
        assert "True" not in book.play(".venv/bin/fleet shard list")
