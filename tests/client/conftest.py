"""Real replicas that can be killed, frozen and lost, nodes on them, and both clients behind one face."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import redis

from scheduler.client import AsyncClient, Client
from scheduler.dev.load import wait_ready
from scheduler.dev.process import spawn_bound, stop
from tests.conftest import routed
from tests.e2e.conftest import FLEET, P, free_ports_in_a_row

# one for all: to make a client costs more than what it is asked here
HTTP = httpx.Client(timeout=10)


@dataclass(frozen=True)
class Replica:
    url: str
    port: int
    process: "subprocess.Popen[bytes]"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def register(self, node: str, slots: int = 1_000, capabilities: tuple[str, ...] = ("work",), **more: Any) -> int:
        """A node that nobody runs."""
        body = {
            "endpoint": f"http://{node}",
            "slots": slots,
            "capabilities": capabilities,
            "ttl_ms": 60_000,
            **more,
        }
        answer = HTTP.put(f"{self.url}/v1/nodes/{node}", json=body)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["incarnation"])

    def seen(self, count: int, tenant: str = "default") -> None:
        """Wait until its snapshot has so many nodes: reasons are counted there."""
        body, end = {"requires": ["never-offered"]}, time.monotonic() + 10
        while True:
            told = HTTP.post(f"{self.url}/v1/explain", json=body, headers={"x-fleet-tenant": tenant}).json()
            if sum(told["reasons"].values()) >= count:
                return
            assert time.monotonic() < end, told
            time.sleep(0.02)


Replicas = Callable[[int], list[Replica]]


def used_before(client: redis.Redis) -> None:
    """Use every shard once: of one that is new, a replica says for ten seconds that nodes may come back."""
    everywhere: Any = routed(client)
    left = set((client.hget(P, "tags") or b"0").decode().split())  # type: ignore[union-attr]
    for number in range(10_000):
        node = f"before-{number}"
        key = everywhere.execute_command("FCALL", "fleet1_shard_find", 1, P, node)[1].decode()
        if (tag := key[key.index("{") + 1 : -1]) in left:
            offer = ("endpoint", "http://x", "slots", 1, "capabilities", "x")
            told = everywhere.execute_command("FCALL", "fleet1_node_register", 1, key, node, *offer)
            everywhere.execute_command("FCALL", "fleet1_node_remove", 1, key, node, told[1].decode())
            left.discard(tag)
        if not left:
            return
    raise AssertionError(f"no node belongs in {left}")


@pytest.fixture
def replicas(redis_url: str, client: redis.Redis) -> Iterator[Replicas]:
    """Start so many, each of them ready."""
    used_before(client)
    started: list[Replica] = []
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}

    def start(count: int) -> list[Replica]:
        first = free_ports_in_a_row(count)
        for port in range(first, first + count):
            argv = [str(FLEET), "serve", "--redis-url", redis_url, "--port", str(port)]
            started.append(Replica(f"http://127.0.0.1:{port}", port, spawn_bound(argv, environ=environ)))
        # a test that is a coroutine has a loop already
        with ThreadPoolExecutor(1) as aside:
            aside.submit(asyncio.run, wait_ready([replica.url for replica in started], 30)).result()
        return started

    yield start
    for replica in started:
        replica.thaw()
    stop([replica.process for replica in started])


@dataclass(frozen=True)
class Either:
    """One of the two clients: methods by name, iterators as lists."""

    client: Client | AsyncClient

    async def __call__(self, method: str, *args: Any, **options: Any) -> Any:
        call = getattr(self.client, method)
        if isinstance(self.client, AsyncClient):
            return await call(*args, **options)
        return await asyncio.to_thread(call, *args, **options)

    async def all(self, method: str, **options: Any) -> list[Any]:
        found = getattr(self.client, method)(**options)
        if isinstance(self.client, AsyncClient):
            return [one async for one in found]
        return await asyncio.to_thread(list, found)


Connect = Callable[..., Either]


@pytest.fixture(params=["sync", "async"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Make a client of these addresses."""
    made: list[Client | AsyncClient] = []

    def make(urls: list[str], **options: Any) -> Either:
        made.append((Client if request.param == "sync" else AsyncClient)(urls, **options))
        return Either(made[-1])

    yield make
    for client in made:
        if isinstance(client, AsyncClient):
            await client.aclose()
        else:
            client.close()
