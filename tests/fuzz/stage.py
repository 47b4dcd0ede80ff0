"""A live replica on a real server with nodes that nobody runs, for whoever wants to be unkind to it."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import Popen

import httpx
import psutil
import redis

from scheduler.dev.load import wait_ready
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import EmbeddedServer, choose_server, free_port
from scheduler.store.library import read_library
from tests.e2e.conftest import FLEET

P = "fleet:{0}"
NODES = 4


@dataclass(frozen=True)
class Stage:
    """The server, a plain client of it, and the replica's address and process."""

    server: EmbeddedServer
    redis: redis.Redis
    url: str
    replica: "Popen[bytes]"
    key: str

    def rss_mib(self) -> float:
        return float(psutil.Process(self.replica.pid).memory_info().rss) / 2**20

    def answers(self) -> bool:
        """Whether the replica is there and can place jobs."""
        return self.replica.poll() is None and httpx.get(f"{self.url}/readyz", timeout=10).status_code == 200


def seed(client: redis.Redis) -> None:
    """An emptied server with the library, some nodes, and the pools that examples name."""
    client.flushall()
    client.execute_command("FUNCTION", "LOAD", "REPLACE", read_library().code)
    for pool in ("pool-2", "pool-1", "default"):
        client.execute_command("FCALL", "fleet1_pool_put", 1, P, pool, '{"selector":{"all":true}}')
    for number in range(NODES):
        fields = ("endpoint", f"http://10.0.0.{number}:9000", "slots", 1_000, "capabilities", "asr:zh tts:en gpu")
        name = f"seed-{number}"
        client.execute_command("FCALL", "fleet1_node_register", 1, P, name, *fields, "ttl_ms", 3_600_000)


def admins_key(url: str) -> str:
    """A key that may everything: with it the replica asks everybody for one."""
    argv = [str(FLEET), "apikeys", "create", "--tenant", "*", "--role", "admin", "--json", "--redis-url", url]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return str(json.loads(done.stdout)["key"])


@contextmanager
def staged(*, keyed: bool = False) -> Iterator[Stage]:
    """With `keyed` everybody is asked for a key; `seed` takes that away, so without it nobody is."""
    choice, _ = choose_server({"PATH": os.environ["PATH"]})
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    # as rarely as may be: what reaping changes is no rejected call's doing
    environ["FLEET_REAP_MS"] = "60000"
    environ["FLEET_AUTH"] = "required" if keyed else "off"
    with EmbeddedServer(choice, args=("--enable-debug-command", "local")) as server:
        client = redis.Redis(port=server.port, socket_timeout=30)
        seed(client)
        key = admins_key(server.url) if keyed else ""
        port = free_port()
        argv = [str(FLEET), "serve", "--redis-url", server.url, "--port", str(port)]
        replica = spawn_bound(argv, environ=environ)
        try:
            url = f"http://127.0.0.1:{port}"
            asyncio.run(wait_ready([url], 30))
            yield Stage(server, client, url, replica, key)
        finally:
            stop([replica])
            client.close()
