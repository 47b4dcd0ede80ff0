"""One real server for each test process; a clean one for each test."""

import os
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path
from typing import cast, get_args

import pytest
import redis

from scheduler.dev.server import EmbeddedServer, Prefer, ServerChoice, choose_server
from scheduler.errors import NoServer
from scheduler.store.library import read_library

# Tests may look where DEBUG looks (DEBUG SLEEP, DEBUG SET-ACTIVE-EXPIRE); both servers forbid it by default.
_ARGS = ("--enable-debug-command", "local")


@cache
def _choice() -> ServerChoice:
    """FLEET_TEST_SERVER says which kind. Never REDIS_URL's server: the suite empties what it runs on."""
    prefer = os.environ.get("FLEET_TEST_SERVER", "any")
    if prefer not in get_args(Prefer):
        raise pytest.UsageError(f"FLEET_TEST_SERVER={prefer}: must be one of {', '.join(get_args(Prefer))}")
    environ = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    return choose_server(environ, cast("Prefer", prefer))[0]


def pytest_report_header() -> str:
    try:
        return f"server: {_choice().describe()}"
    except NoServer as error:
        return f"server: none, tests that need one will fail: {error}"


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A lone surrogate in a log or a failure would end the worker, which sends its reports as UTF-8."""
    report = yield
    report.sections = [(name, _encodable(text)) for name, text in report.sections]
    if (shown := report.longreprtext) != _encodable(shown):
        report.longrepr = _encodable(shown)
    return report


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """This test process's server. Ask for `client` or `redis_url` as well to find it empty."""
    with EmbeddedServer(_choice(), args=_ARGS) as running:
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
    """Start servers of a test's own: fresh_server("--appendonly", "yes"); `kill` and `start` keep folder and port."""
    started: list[EmbeddedServer] = []

    def start(*args: str) -> EmbeddedServer:
        folder = tmp_path / f"server{len(started)}"
        folder.mkdir()
        started.append(EmbeddedServer(_choice(), args=(*_ARGS, *args), folder=folder))
        return started[-1]

    yield start
    for running in started:
        running.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have counted for people to read: each record_property("figure", …) on a line of its own."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    for figure in (value for report in reports for name, value in report.user_properties if name == "figure"):
        terminalreporter.write_line(f"figure: {figure}")
