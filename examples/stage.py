"""What the examples stand on: a private server, replicas, and nodes in this process; all gone at the end."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from scheduler.agent import Agent, Handler, NodeConfig
from scheduler.agent.meters import Meters
from scheduler.dev.load import wait_ready
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import EmbeddedServer, choose_server, free_port
from scheduler.store.client import connect
from scheduler.store.library import load_library

# An example is not for a fleet that somebody uses.
ENVIRON = {name: value for name, value in os.environ.items() if name != "REDIS_URL" and not name.startswith("FLEET_")}
# what an example has to say stands on stdout
ENVIRON["FLEET_LOG_LEVEL"] = "warning"
FLEET = Path(sys.executable).with_name("fleet")


class _Idle(Meters):
    """All nodes of an example are on one machine: its load would take all of them out at once."""

    def read(self) -> dict[str, object]:
        return {"cpu": 20, "mem": 40}


@contextmanager
def server() -> Iterator[str]:
    """A Redis of our own with the library in it; answers its address."""
    choice, _ = choose_server(ENVIRON)
    print(f"server: {choice.describe()}")
    with EmbeddedServer(choice) as running:
        asyncio.run(_load_library(running.url))
        yield running.url


async def _load_library(url: str) -> None:
    client = connect(url, timeout_ms=5_000)
    try:
        await load_library(client)
    finally:
        await client.aclose()


def fleet_command(*words: str, redis_url: str) -> None:
    """What an operator types."""
    subprocess.run([FLEET, *words], env=ENVIRON | {"REDIS_URL": redis_url}, check=True, timeout=20)


@contextmanager
def replicas(redis_url: str, count: int) -> Iterator[list[str]]:
    """Replicas as processes of their own; answers their addresses once all are ready."""
    ports = [free_port() for _ in range(count)]
    started = [
        spawn_bound([FLEET, "serve", "--redis-url", redis_url, "--port", str(port)], environ=ENVIRON)
        for port in ports
    ]
    try:
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        asyncio.run(wait_ready(urls, 30))
        print(f"replicas: {' '.join(urls)}\n")
        yield urls
    finally:
        stop(started)


@asynccontextmanager
async def nodes(redis_url: str, configs: Iterable[NodeConfig], handler: Handler) -> AsyncIterator[None]:
    """Nodes in this process, registered, until the end."""
    agents = [Agent(config, handler, redis_url, meters=_Idle()) for config in configs]
    tasks = [asyncio.create_task(agent.run()) for agent in agents]
    try:
        async with asyncio.timeout(20):
            while not all(agent.incarnation for agent in agents):  # noqa: ASYNC110 - it can only be looked at
                await asyncio.sleep(0.01)
        yield
    finally:
        for agent in agents:
            agent.leave()
        await asyncio.gather(*tasks)
