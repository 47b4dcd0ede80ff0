"""A primary dies, or hands over on demand: what a person sees, and what is still there."""

from collections.abc import Iterator

import pytest
import redis

from scheduler.dev.cluster import EmbeddedCluster, ask, wait_until
from scheduler.dev.sentinel import EmbeddedSentinel
from scheduler.dev.server import EmbeddedServer
from scheduler.store.library import read_library
from tests.integration.store.conftest import KINDS, choice_of
from tests.operations.conftest import Open

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
# as in deploy/redis
WITH_COPY = ("--appendonly", "yes", "--min-replicas-to-write", "1", "--min-replicas-max-lag", "3")


@pytest.fixture(params=KINDS)
def watched(request: pytest.FixtureRequest) -> Iterator[EmbeddedSentinel]:
    with EmbeddedSentinel(choice_of(request.param), replicas=2, down_after_ms=2_000, args=WITH_COPY) as running:
        yield running


@pytest.fixture(params=KINDS)
def cluster(request: pytest.FixtureRequest) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(choice_of(request.param), replicas=1) as running:
        yield running


def load(server: EmbeddedServer) -> None:
    ask(server, "FUNCTION", "LOAD", read_library().code)


def register(server: EmbeddedServer) -> None:
    node = ("by-hand", "endpoint", "http://n", "slots", 4, "capabilities", "work", "ttl_ms", 600_000)
    assert ask(server, "FCALL", "fleet1_node_register", 1, "fleet:{0}", *node)[0] == b"registered"


def copies_follow(server: EmbeddedServer, count: int) -> bool:
    return int(ask(server, "INFO", "replication")["connected_slaves"]) == count


def test_sentinel_promotes_a_copy_and_hands_over_on_demand(watched: EmbeddedSentinel, open_book: Open) -> None:
    first = watched.primary()
    load(first)
    register(first)
    ask(first, "WAIT", 2, 5_000)
    with open_book("### Sentinel", first.port, watched.url) as book:
        book.places["-p 26379"] = f"-p {watched.sentinels[0].port}"
        first.kill()
        wait_until(lambda: watched.primary() is not first, "another leads", 30)
        second = watched.primary()
        assert str(second.port) in book.play("redis-cli -p 26379 SENTINEL GET-MASTER")
        first.start()
        watched.wait_whole()
        assert book.play("redis-cli -p 26379 SENTINEL CKQUORUM").startswith("OK")
        assert str(first.port) in book.play("redis-cli -p 26379 SENTINEL REPLICAS")
        # it came with the data
        book.play(".venv/bin/fleet library status")
        assert "1" in book.play(".venv/bin/fleet shard list")
        book.play(".venv/bin/fleet events")

        others = [server for server in watched.servers if server is not second]
        book.places |= {
            "grep 10.0.0.2": f"grep -E '{'|'.join(str(other.port) for other in others)}'",
            "-h 10.0.0.1": f"-h 127.0.0.1 -p {second.port}",
        }
        wait_until(lambda: copies_follow(second, 2), "both copies follow", 20)
        book.play("redis-cli -h 10.0.0.1 CONFIG SET")
        assert book.play("redis-cli -p 26379 SENTINEL FAILOVER") == "OK\n"
        book.play("until redis-cli -p 26379")
        third = watched.primary()
        assert third is not second
        # no write that only the old one has
        with pytest.raises(redis.ResponseError, match=r"NOREPLICAS|READONLY"):
            ask(second, "SET", "x", 1)
        book.places["10.0.0.2 6379"] = f"127.0.0.1 {third.port}"
        book.play("redis-cli -h 10.0.0.1 REPLICAOF")
        book.play("redis-cli -h 10.0.0.1 CONFIG SET")
        watched.wait_whole()
        assert watched.primary() is third
        wait_until(lambda: copies_follow(third, 2), "both copies follow", 20)
        assert ask(third, "EXISTS", "fleet:{0}:node:by-hand") == 1
        register(third)


def test_a_copy_in_a_cluster_takes_over_and_hands_over_on_demand(cluster: EmbeddedCluster, open_book: Open) -> None:
    lost = cluster.primary_of("fleet:{0}")
    for server in cluster.servers:
        if ask(server, "ROLE")[0] == b"master":
            load(server)
    register(lost)
    ask(lost, "WAIT", 1, 5_000)
    other = next(server for server in cluster.servers if server is not lost)
    with open_book("### Redis Cluster", other.port, cluster.url) as book:
        book.places["-h 10.0.0.2"] = f"-h 127.0.0.1 -p {other.port}"
        lost.kill()
        cluster.wait_promoted(lost)
        assert "fail" in book.play("redis-cli -h 10.0.0.2 CLUSTER NODES")
        leading = cluster.primary_of("fleet:{0}")
        lost.start()
        cluster.wait_whole()
        told = book.play("redis-cli -h 10.0.0.2 CLUSTER INFO")
        assert "cluster_state:ok" in told
        assert "cluster_slots_ok:16384" in told
        book.play(".venv/bin/fleet library status")
        book.play(".venv/bin/fleet shard list")
        # back to the one that was away
        book.places["-h 10.0.0.4"] = f"-h 127.0.0.1 -p {lost.port}"
        assert book.play("redis-cli -h 10.0.0.4 CLUSTER FAILOVER") == "OK\n"
        book.play("until redis-cli -h 10.0.0.4")
        cluster.wait_whole()
        assert cluster.primary_of("fleet:{0}") is lost is not leading
        assert ask(lost, "EXISTS", "fleet:{0}:node:by-hand") == 1
