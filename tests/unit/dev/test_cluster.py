import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.dev.cluster import HASH_SLOTS, EmbeddedCluster, ask, wait_until
from scheduler.dev.server import choose_server
from scheduler.errors import NoServer
from tests.unit.dev.waiting import gone

PARENT = """
import os, sys, time
from scheduler.dev.cluster import EmbeddedCluster
from scheduler.dev.sentinel import EmbeddedSentinel
from scheduler.dev.server import choose_server
choice = choose_server({"PATH": os.environ["PATH"]})[0]
cluster, sentinel = EmbeddedCluster(choice, primaries=2), EmbeddedSentinel(choice, replicas=0, sentinels=2)
servers = [*cluster.servers, *sentinel.servers, *sentinel.sentinels]
print(*(server.pid for server in servers), flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(choose_server({"PATH": os.environ["PATH"]})[0], replicas=1, node_timeout_ms=500) as running:
        yield running


def test_the_hash_slots_are_shared_out_evenly_and_every_primary_has_its_replica(cluster: EmbeddedCluster) -> None:
    shares = [
        (int(end) - int(begin) + 1, len(replicas))
        for begin, end, _, *replicas in ask(cluster.servers[0], "CLUSTER", "SLOTS")
    ]
    assert sum(share for share, _ in shares) == HASH_SLOTS
    assert [(share in {5461, 5462}, replicas) for share, replicas in shares] == [(True, 1)] * 3


def test_the_replica_of_a_killed_primary_takes_over_and_the_killed_one_comes_back(cluster: EmbeddedCluster) -> None:
    lost = cluster.primary_of("fleet:{0}")
    beside = next(s for s in cluster.servers if s is not lost and cluster.primary_of("fleet:{1}") is s)
    lost.kill()
    assert not lost.running
    cluster.wait_promoted(lost)
    assert cluster.primary_of("fleet:{0}") is not lost
    assert cluster.primary_of("fleet:{1}") is beside
    lost.start()
    cluster.wait_whole()
    assert ask(lost, "INFO", "replication")["role"] == "slave"


def test_what_does_not_come_true_is_an_error_that_names_it() -> None:
    with pytest.raises(NoServer, match="not so that pigs fly"):
        wait_until(lambda: False, "pigs fly", 0.05)


def test_a_cluster_leaves_nothing() -> None:
    with EmbeddedCluster(choose_server({"PATH": os.environ["PATH"]})[0], primaries=1) as running:
        server = running.servers[0]
        assert ask(server, "SET", "any", 1)
        pid, folder = server.pid, server.folder
    assert gone(pid, 0)
    assert not Path(folder).exists()


def test_sigkill_of_the_owner_ends_a_cluster_and_sentinels() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 5
        assert not any(gone(pid, 0) for pid in pids)
        parent.send_signal(signal.SIGKILL)
    assert all(gone(pid) for pid in pids)
