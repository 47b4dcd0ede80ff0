"""`fleet apikeys`, the start of `fleet serve`, and the commands and clients that send a key."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from scheduler.client import AsyncClient, Client, Denied, NewJob
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import free_port
from scheduler.domain.apikey import read_key
from tests.auth.conftest import P, bearer
from tests.e2e.conftest import FLEET, Run, environ, fcall, fleet, register, wait_until
from tests.sharded import Shards

__all__ = ["fleet"]


def answers(url: str, path: str, key: str | None = None) -> int:
    try:
        return httpx.get(url + path, headers=bearer(key), timeout=5).status_code
    except httpx.TransportError:
        return 0


@pytest.fixture
def served(redis_url: str, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Serve with these words and variables, and wait until it is ready; answers its address. It logs into a file."""
    started: list[subprocess.Popen[bytes]] = []

    def serve(*words: str, **more: str) -> str:
        port = free_port()
        with (tmp_path / "serve.log").open("ab") as log:
            started.append(
                spawn_bound(
                    [str(FLEET), "serve", "--port", str(port), *words], environ=environ(redis_url) | more, stderr=log
                )
            )
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(url, "/readyz") == 200 or started[-1].poll() is not None, "ready", 30)
        assert started[-1].poll() is None
        return url

    yield serve
    stop(started)


def create(fleet: Run, *words: str, **more: str) -> str:
    return fleet("apikeys", "create", *words, **more).stdout.strip()


def test_a_key_is_printed_alone_and_once_and_its_hash_is_all_that_is_kept(fleet: Run, shards: Shards) -> None:
    done = fleet("apikeys", "create", "--tenant", "acme", "--role", "submit", "--expires", "30d")
    found = read_key(done.stdout.removesuffix("\n"))
    assert found
    id_, secret = found
    assert id_ in done.stderr
    assert secret not in done.stderr
    stored = json.loads(shards.redis.hget(f"{P}:apikeys", id_) or b"")
    assert (stored["tenant"], stored["role"]) == ("acme", "submit")
    assert stored["expires_at_ms"] - stored["created_at_ms"] == 30 * 86_400_000
    assert all(secret.encode() not in value for value in shards.everything().values())
    for words in ((), ("--json",)):
        told = fleet("apikeys", "list", *words).stdout
        assert id_ in told
        assert secret not in told
        assert stored["hash"] not in told


def test_a_key_in_json_is_json_alone(fleet: Run) -> None:
    told = json.loads(fleet("apikeys", "create", "--tenant", "*", "--role", "node", "--node", "n1", "--json").stdout)
    assert read_key(told["key"])
    assert (told["tenant"], told["role"], told["node"], told["expires_at_ms"]) == ("*", "node", "n1", None)
    (line,) = json.loads(fleet("apikeys", "list", "--json").stdout)["keys"]
    assert set(line) == {
        "id", "tenant", "role", "node", "parent", "created_at_ms", "expires_at_ms", "expired"
    }  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ("create", "--tenant", "acme", "--role", "admin"),
        ("create", "--tenant", "acme", "--role", "node"),
        ("create", "--tenant", "acme", "--role", "submit", "--node", "n1"),
        ("create", "--tenant", "a b", "--role", "submit"),
        ("create", "--tenant", "acme", "--role", "root"),
        ("create", "--tenant", "acme", "--role", "submit", "--expires", "0d"),
        ("create", "--tenant", "acme", "--role", "submit", "--expires", "5"),
        ("create", "--tenant", "acme", "--role", "submit", "--expires", "99999d"),
        ("rotate", "NO"),
        ("revoke", "../x"),
    ],
)
def test_what_makes_no_key_is_said_and_changes_nothing(fleet: Run, shards: Shards, words: tuple[str, ...]) -> None:
    done = fleet("apikeys", *words, status=2)
    assert done.stdout == ""
    assert not shards.redis.exists(f"{P}:apikeys")


def test_rotating_and_revoking_what_is_not_there_fails(fleet: Run) -> None:
    for word in ("rotate", "revoke"):
        assert "no key unknown1 is known" in fleet("apikeys", word, "unknown1", status=1).stderr
    assert fleet("apikeys", "list").stdout == "there is no key\n"


def test_rotate_and_revoke_are_heard_by_a_replica(fleet: Run, served: Callable[..., str]) -> None:
    admin, old = create(fleet, "--tenant", "*", "--role", "admin"), create(fleet, "--tenant", "a", "--role", "submit")
    id_ = old.split("_")[1]
    url = served()
    assert [answers(url, "/v1/pools", key) for key in (None, admin, old)] == [401, 200, 200]
    later = fleet("apikeys", "rotate", id_, "--grace", "10m").stdout.strip()
    assert [answers(url, "/v1/pools", key) for key in (later, old)] == [200, 200]
    last = fleet("apikeys", "rotate", id_).stdout.strip()
    wait_until(lambda: answers(url, "/v1/pools", later) == 401, "the rotated secret ends")
    assert [answers(url, "/v1/pools", key) for key in (last, old)] == [200, 401]
    assert json.loads(fleet("apikeys", "revoke", id_, "--json").stdout) == {"id": id_, "outcome": "revoked"}
    wait_until(lambda: answers(url, "/v1/pools", last) == 401, "the revoked key ends")


def test_serving_others_needs_a_key_or_a_word(fleet: Run, served: Callable[..., str], tmp_path: Path) -> None:
    # not known as the loopback's, yet nothing but it is bound
    port = str(free_port())
    refused = fleet("serve", "--host", "127.1", "--port", port, status=2).stderr
    assert "fleet apikeys create --tenant '*' --role admin" in refused
    assert "FLEET_AUTH=off" in refused
    assert "FLEET_AUTH=off" in fleet("serve", "--port", port, status=2, FLEET_AUTH="required").stderr
    url = served("--host", "127.1", FLEET_AUTH="off")
    assert answers(url, "/v1/pools") == 200
    assert "without any authentication" in (tmp_path / "serve.log").read_text()
    key = create(fleet, "--tenant", "*", "--role", "admin")
    assert answers(url, "/v1/pools") == 200, "off is off"
    url = served("--host", "127.1")
    assert [answers(url, "/v1/pools", known) for known in (None, key)] == [401, 200]
    assert "auth must be one of auto, required, off" in fleet("serve", status=2, FLEET_AUTH="maybe").stderr


def test_commands_send_the_key_of_a_file_or_of_the_environment(
    fleet: Run, served: Callable[..., str], shards: Shards, tmp_path: Path
) -> None:
    register(shards, "n1", "asr")
    admin = create(fleet, "--tenant", "*", "--role", "admin")
    key = create(fleet, "--tenant", "acme", "--role", "submit")
    url = served()
    file = tmp_path / "key"
    file.write_text(f"{key}\n")
    submit = ("submit", "--url", url, "--requires", "asr", "--deliver", "direct", "--json")
    assert "API key" in fleet(*submit, status=1).stderr
    assert json.loads(fleet(*submit, "--api-key-file", str(file), "--id", "j1").stdout)["job"]["id"] == "acme:j1"
    assert json.loads(fleet(*submit, "--id", "j2", FLEET_API_KEY=key).stdout)["job"]["id"] == "acme:j2"
    assert "bound" in fleet(*submit, "--tenant", "globex", status=1, FLEET_API_KEY=key).stderr
    assert fleet("mirror", "diff", "--url", url, FLEET_API_KEY=admin).stdout.startswith("1 nodes")
    assert "401" in fleet("mirror", "diff", "--url", url, status=1).stderr
    assert "cannot be read" in fleet(*submit, "--api-key-file", str(tmp_path / "none"), status=2).stderr
    assert "must be an API key" in fleet(*submit, status=2, FLEET_API_KEY="a\nb").stderr


async def test_clients_take_a_key(fleet: Run, served: Callable[..., str], shards: Shards) -> None:
    register(shards, "n1", "asr")
    assert fcall(shards, "reap")[0] == "reaped"
    key = create(fleet, "--tenant", "acme", "--role", "submit")
    url = served()
    job: Any = NewJob(requires=["asr"], deliver="direct", id="j1")
    with Client(url, api_key=key) as client:
        assert client.place(job).job.id == "acme:j1"
        assert [node.id for node in client.nodes()] == ["n1"]
    with Client(url) as client, pytest.raises(Denied):
        client.place(job)
    async with AsyncClient(url, api_key=key) as other:
        assert (await other.job("acme:j1")).tenant == "acme"
    async with AsyncClient(url, api_key=key, tenant="globex") as other:
        with pytest.raises(Denied):
            await other.job("acme:j1")
    assert "FLEET_API_KEY" not in os.environ
