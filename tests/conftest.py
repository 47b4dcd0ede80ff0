"""One real server for each test process; a clean one for each test."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
import redis

from scheduler.dev.server import EmbeddedServer, Prefer, ServerChoice, choose_server
from scheduler.store.library import read_library


def _choice() -> ServerChoice:
    prefer = cast("Prefer", os.environ.get("FLEET_TEST_SERVER", "any"))
    environ = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    return choose_server(environ, prefer)[0]


def pytest_report_header() -> str:
    return f"server: {_choice().describe()}"


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(_choice()) as running:
        yield running


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[redis.Redis]:
    """A plain client to an empty server that has the library."""
    with redis.Redis(port=server.port, socket_timeout=10) as plain:
        plain.config_set("maxmemory", 0)
        plain.flushall()
        plain.execute_command("FUNCTION", "LOAD", "REPLACE", read_library().code)
        yield plain


@pytest.fixture
def redis_url(server: EmbeddedServer, client: redis.Redis) -> str:
    assert client.ping()
    return server.url


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[Callable[..., EmbeddedServer]]:
    """Start servers of a test's own: fresh_server("--appendonly", "yes")."""
    started: list[EmbeddedServer] = []

    def start(*args: str) -> EmbeddedServer:
        folder = tmp_path / f"server{len(started)}"
        folder.mkdir()
        started.append(EmbeddedServer(_choice(), args=args, folder=folder))
        return started[-1]

    yield start
    for running in started:
        running.stop()
