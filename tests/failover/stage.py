"""What each scene runs on, and its event."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import redis
from redis.cluster import RedisCluster
from redis.exceptions import ResponseError

from scheduler.dev.cluster import EmbeddedCluster, ask, wait_until
from scheduler.dev.process import spawn_bound
from scheduler.dev.sentinel import SERVICE, EmbeddedSentinel
from scheduler.dev.server import EmbeddedServer, Prefer, choose_server

FLEET = Path(sys.executable).with_name("fleet")
_AOF = ("--appendonly", "yes", "--appendfsync", "everysec")
_WITH_COPY = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "3")


@dataclass
class Stage:
    """What a scene runs on; `fault` is the event, and returns what it did."""

    url: str
    shards: int
    client: "Callable[[], redis.Redis | RedisCluster]"
    fault: Callable[[], str]


@dataclass(frozen=True)
class Scene:
    """A stage, and whether its event may lose what was acknowledged."""

    opened: Callable[[Prefer], AbstractContextManager[Stage]]
    may_lose: bool


def run_fleet(*argv: str, url: str) -> str:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("FLEET_")} | {"REDIS_URL": url}
    process = spawn_bound([FLEET, *argv], environ=environ, stdout=-1)
    said, _ = process.communicate(timeout=60)
    if process.returncode:
        raise SystemExit(f"fleet {' '.join(argv)} ended with {process.returncode}")
    return said.decode().strip()


def _leads(server: EmbeddedServer) -> bool:
    return bool(ask(server, "ROLE")[0] == b"master")


def _killed(cluster: EmbeddedCluster) -> str:
    lost = cluster.primary_of("fleet:{0}")
    lost.kill()
    cluster.wait_promoted(lost)
    return f"kill -9 of the primary of {{0}}, 127.0.0.1:{lost.port}, and promotion"


def _moved(cluster: EmbeddedCluster) -> str:
    source = cluster.primary_of("fleet:{0}")
    other = next(server for server in cluster.servers if server is not source)
    return run_fleet("shard", "move", "0", f"127.0.0.1:{other.port}", url=cluster.url)


def _handed_over(cluster: EmbeddedCluster) -> str:
    source = cluster.primary_of("fleet:{0}")
    copies = (server for server in cluster.servers if not _leads(server))
    copy = next(server for server in copies if int(ask(server, "ROLE")[2]) == source.port)
    ask(copy, "CLUSTER", "FAILOVER")
    wait_until(lambda: _leads(copy), "the copy leads", 30)
    return f"CLUSTER FAILOVER at the copy of the primary of {{0}}, 127.0.0.1:{copy.port}"


@contextmanager
def _cluster(prefer: Prefer, *, replicas: int, fault: Callable[[EmbeddedCluster], str]) -> Iterator[Stage]:
    choice, _ = choose_server(os.environ, prefer)
    with EmbeddedCluster(choice, replicas=replicas, args=_AOF) as cluster:

        def client() -> RedisCluster:
            running = next(server for server in cluster.servers if server.running)
            return RedisCluster(host="127.0.0.1", port=running.port)

        print(choice.describe(), file=sys.stderr)
        yield Stage(cluster.url, 8, client, partial(fault, cluster))


def _sentinel_killed(watched: EmbeddedSentinel) -> str:
    lost = watched.primary()
    lost.kill()
    wait_until(lambda: watched.primary() is not lost, "another is the primary", 30)
    return f"kill -9 of the primary, 127.0.0.1:{lost.port}, and promotion"


def _sentinel_asked(watched: EmbeddedSentinel) -> str:
    """As docs/operations.md says: the old primary refuses writes as soon as one of its copies has left it."""
    old = watched.primary()
    try:
        # Valkey 9.1 lets the copy catch up first; others do not know the word
        ask(watched.sentinels[0], "SENTINEL", "FAILOVER", SERVICE, "COORDINATED")
    except ResponseError:
        ask(old, "CONFIG", "SET", "min-replicas-to-write", len(watched.servers) - 1)
        watched.fail_over()
        wait_until(lambda: watched.primary() is not old, "another is the primary", 30)
        ask(old, "REPLICAOF", "127.0.0.1", watched.primary().port)
        ask(old, "CONFIG", "SET", "min-replicas-to-write", 1)
        return f"SENTINEL FAILOVER {SERVICE}, from 127.0.0.1:{old.port}"
    wait_until(lambda: watched.primary() is not old, "another is the primary", 30)
    return f"SENTINEL FAILOVER {SERVICE} COORDINATED, from 127.0.0.1:{old.port}"


@contextmanager
def _sentinel(
    prefer: Prefer,
    *,
    replicas: int,
    args: tuple[str, ...],
    fault: Callable[[EmbeddedSentinel], str],
    down_after_ms: int = 500,
) -> Iterator[Stage]:
    choice, _ = choose_server(os.environ, prefer)
    with EmbeddedSentinel(choice, replicas=replicas, args=args, down_after_ms=down_after_ms) as watched:
        print(choice.describe(), file=sys.stderr)
        yield Stage(watched.url, 1, lambda: redis.Redis(port=watched.primary().port), partial(fault, watched))


# As in deploy/redis: a primary that its copies have left takes no more writes, and a new one is not taken for dead
# before the sentinels have reached it. With half a second a busy machine fails over again and again, and loses jobs.
_planned = partial(
    _sentinel, replicas=2, args=(*_AOF, *_WITH_COPY), fault=_sentinel_asked, down_after_ms=2_000
)  # fmt: skip
SCENES: Mapping[str, Scene] = MappingProxyType({
    "cluster": Scene(partial(_cluster, replicas=1, fault=_killed), may_lose=True),
    "cluster-planned": Scene(partial(_cluster, replicas=1, fault=_handed_over), may_lose=False),
    "sentinel": Scene(partial(_sentinel, replicas=1, args=_AOF, fault=_sentinel_killed), may_lose=True),
    "sentinel-planned": Scene(_planned, may_lose=True),
    "move": Scene(partial(_cluster, replicas=0, fault=_moved), may_lose=False),
})  # fmt: skip
