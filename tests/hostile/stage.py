"""What is attacked: real replicas, reached directly or through nginx with the configuration that is deployed."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis

from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import EmbeddedServer, Prefer, choose_server, free_port
from scheduler.store.library import read_library
from tests.deploy.balancers import Front, running, tool
from tests.e2e.conftest import FLEET

P = "fleet:{0}"
# For each of two workers; more than all who attack at once.
NGINX_CONNECTIONS = 9_000


@dataclass(frozen=True)
class Stage:
    """The port that is attacked, and the replicas that serve it."""

    port: int
    replicas: Sequence[int]

    def memory(self) -> int:
        """Bytes of the largest replica."""
        return max(psutil.Process(pid).memory_info().rss for pid in self.replicas)

    def cpu_s(self) -> float:
        """CPU time of all of them."""
        return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in self.replicas)

    def files(self) -> int:
        """Open files of the replica that has most."""
        return max(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.replicas)


@contextmanager
def _server(prefer: Prefer) -> Iterator[str]:
    """A server with one wide node that nobody runs."""
    environ = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    with EmbeddedServer(choose_server(environ, prefer)[0]) as server:
        client = redis.Redis(port=server.port, socket_timeout=10)
        client.execute_command("FUNCTION", "LOAD", "REPLACE", read_library().code)
        offer = ("endpoint", "http://n1", "slots", 1_000_000, "capabilities", "work", "ttl_ms", 3_600_000)
        client.execute_command("FCALL", "fleet1_node_register", 1, P, "n1", *offer)
        yield server.url
        client.close()


@contextmanager
def direct(prefer: Prefer, **settings: int) -> Iterator[Stage]:
    """One replica; settings are such as arrival_ms."""
    with _server(prefer) as url:
        port = free_port()
        environ = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
        environ |= {f"FLEET_{name.upper()}": str(value) for name, value in settings.items()}
        replica = spawn_bound([FLEET, "serve", "--redis-url", url, "--port", str(port)], environ=environ)
        try:
            Front(f"http://127.0.0.1:{port}", url, [port], [replica]).wait_ready(port)
            yield Stage(port, [replica.pid])
        finally:
            stop([replica], 15)


@contextmanager
def behind_nginx(prefer: Prefer) -> Iterator[Stage]:
    if tool("nginx") is None:
        raise SystemExit("nginx is not installed")
    # not tempfile's own context: nginx may still be leaving it
    folder = Path(tempfile.mkdtemp())
    try:
        with _server(prefer) as url, running("nginx", url, folder, connections=NGINX_CONNECTIONS) as front:
            yield Stage(int(front.url.rpartition(":")[2]), [replica.pid for replica in front.replicas])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


WAYS = {"direct": direct, "nginx": behind_nginx}


def attacked(kind: str, port: int, connections: int) -> list[str]:
    return [sys.executable, "-m", "tests.hostile.attack", kind, str(port), str(connections)]


def calmed(stage: Stage, files: int, deadline_s: float) -> bool:
    """Whether the replicas have no more files open than that, in time."""
    end = time.monotonic() + deadline_s
    while stage.files() > files:
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
