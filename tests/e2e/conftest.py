"""Real replicas as processes of their own, and ports that nobody holds."""

import asyncio
import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from scheduler.dev.load import wait_ready
from scheduler.dev.process import spawn_bound, stop
from tests.sharded import Shards

P = "fleet:{0}"
FLEET = Path(sys.executable).with_name("fleet")

Replicas = Callable[[int], list[str]]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def fcall(shards: Shards, name: str, *args: str | float) -> list[Any]:
    """One call as redis-cli would make it, its reply as text."""
    return shards.fcall(name, *args)


def register(shards: Shards, node: str, capabilities: str, slots: int = 1_000, ttl_ms: int = 60_000) -> str:
    """A node that nobody runs: it can be claimed until its TTL is over; answers its incarnation."""
    fields: list[str | int] = [
        "endpoint",
        f"http://{node}",
        "slots",
        slots,
        "capabilities",
        capabilities,
        "ttl_ms",
        ttl_ms,
    ]
    return str(fcall(shards, "node_register", node, *fields)[1])


def place(http: httpx.Client, token: str, **more: object) -> httpx.Response:
    return http.post("/v1/jobs", json={"requires": [token], "deliver": "direct", **more})


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = 10) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0.005)


def free_ports_in_a_row(count: int) -> int:
    """The first of so many neighbouring ports that are all free now.

    They lie below those that the kernel gives to outgoing connections, which could take one before a replica does.
    """
    for _ in range(100):
        first = random.randrange(20_000, 32_000)
        with contextlib.ExitStack() as held:
            try:
                for port in range(first, first + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise AssertionError("no free ports in a row")


@pytest.fixture
def replicas(redis_url: str) -> Iterator[Replicas]:
    """Start so many replicas on this test's server; answers their URLs once every one is ready."""
    started: list[subprocess.Popen[bytes]] = []
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}

    def start(count: int) -> list[str]:
        first = free_ports_in_a_row(count)
        ports = range(first, first + count)
        for port in ports:
            argv = [str(FLEET), "serve", "--redis-url", redis_url, "--port", str(port)]
            started.append(spawn_bound(argv, environ=environ))
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        asyncio.run(wait_ready(urls, 30))
        return urls

    yield start
    stop(started)


@pytest.fixture
def http(replicas: Replicas) -> Iterator[httpx.Client]:
    """A client of one real replica."""
    with httpx.Client(base_url=replicas(1)[0], timeout=10) as client:
        yield client


def environ(url: str) -> dict[str, str]:
    given = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    return given | {"REDIS_URL": url, "COLUMNS": "200", "TZ": "UTC"}


@pytest.fixture
def fleet(redis_url: str) -> Run:
    """Run the command on this test's server; keywords but `status` are environment."""

    def run(*words: str, status: int = 0, **more: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [FLEET, *words], env=environ(redis_url) | more, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == status, (done.stdout, done.stderr)
        return done

    return run
