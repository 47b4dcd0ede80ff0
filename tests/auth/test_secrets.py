"""A full round with keys and a Redis password: nothing that is printed, answered, stored or listed has one in it."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil
import pytest
import redis

from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import EmbeddedServer, free_port
from scheduler.domain.apikey import read_key
from scheduler.http.routes import OPERATIONS
from scheduler.store.library import read_library
from scheduler.ui.routes import PAGES
from tests.auth.conftest import bearer
from tests.auth.test_matrix import ROWS
from tests.e2e.conftest import FLEET, environ, free_ports_in_a_row, wait_until

PASSWORD = "p@ss:word/of-redis?1"
LOOKS = (
    "apikeys list",
    "apikeys list --json",
    "events --json",
    "doctor",
    "nodes",
    "pools list",
    "library status",
    "schema",
    "shard list",
)
SAME = {"sec-fetch-site": "same-origin"}


@pytest.fixture
def protected(fresh_server: Callable[..., EmbeddedServer]) -> EmbeddedServer:
    """A server with a password for everybody."""
    server = fresh_server()
    with redis.Redis(port=server.port) as client:
        client.execute_command("FUNCTION", "LOAD", read_library().code)
        client.config_set("requirepass", PASSWORD)
    return server


class Heard:
    """Everything that was said, and what must not be in it."""

    def __init__(self, server: EmbeddedServer, folder: Path) -> None:
        self.url = f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}"
        self.secrets = {PASSWORD, quote(PASSWORD, safe="")}
        self.said: list[tuple[str, str]] = []
        self.log = folder / "log"

    def fleet(self, *words: str, url: str | None = None, status: Sequence[int] = (0, 1, 2), **more: str) -> str:
        """What the command prints. A key that it is made for is printed, and never again."""
        done = subprocess.run(
            [FLEET, *words],
            env=environ(url or self.url) | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode in status, (words, done.stderr)
        out = done.stdout
        if words[:2] in {("apikeys", "create"), ("apikeys", "rotate")} and (found := read_key(out.strip())):
            self.secrets.add(found[1])
            out = ""
        self.said.append((" ".join(words), out + done.stderr))
        return done.stdout.strip()

    def answer(self, answer: httpx.Response) -> httpx.Response:
        headers = {name: value for name, value in answer.headers.items() if name != "set-cookie"}
        self.said.append((str(answer.request.url), f"{headers}{answer.text}"))
        return answer

    def processes(self) -> None:
        """The command lines that anybody on this machine can read."""
        children = psutil.Process().children(recursive=True)
        for child in children:
            try:
                self.said.append((f"process {child.pid}", " ".join(child.cmdline())))
            except psutil.Error:
                continue

    def leaks(self) -> Iterator[str]:
        for what, text in [*self.said, ("the log", self.log.read_text("utf-8"))]:
            for secret in self.secrets:
                if secret in text:
                    yield f"{what}: {text[max(text.index(secret) - 200, 0) :][:400]}"


def every_route(heard: Heard, http: httpx.Client, keys: Sequence[str | None]) -> None:
    """Each with each key; what is answered is of no matter."""
    for operation in (*OPERATIONS, *PAGES):
        row = ROWS[operation.method, operation.path]
        if operation.path in {"/v1/events", "/ui/sign-in", "/ui/sign-out"}:
            continue
        names = {"job": "acme:j1", "node": "n1", "pool": "gold", "tenant": "acme", **row.params}
        path = re.sub(r"{([^}]+)}", lambda found: names[found[1]], operation.path)  # noqa: B023
        body = row.body and {name: 1 if str(value).isupper() else value for name, value in row.body.items()}
        for key in keys:
            heard.answer(http.request(operation.method, path, json=body, headers=bearer(key) | SAME))


@pytest.mark.timeout(180)
def test_no_secret_is_said_anywhere(protected: EmbeddedServer, tmp_path: Path) -> None:
    heard = Heard(protected, tmp_path)
    admin = heard.fleet("apikeys", "create", "--tenant", "*", "--role", "admin", status=(0,))
    acme = heard.fleet("apikeys", "create", "--tenant", "acme", "--role", "submit", status=(0,))
    node = heard.fleet("apikeys", "create", "--tenant", "acme", "--role", "node", "--node", "n1", status=(0,))
    wrong = f"fleet_{acme.split('_')[1]}_{'w' * 43}"
    heard.secrets.add("w" * 43)
    port = free_port()
    with heard.log.open("wb") as log:
        argv = [str(FLEET), "serve", "--port", str(port), "--log-level", "debug"]
        process = spawn_bound(argv, environ=environ(heard.url), stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            wait_until(lambda: answered(http, "/readyz"), "the replica is ready", 30)
            every_route(heard, http, (admin, acme, node, wrong, None))
            heard.answer(http.get("/v1/pools", headers={"authorization": f"Basic {acme}"}))
            heard.answer(http.get(f"/v1/pools?key={quote('not-a-key')}", headers={"authorization": acme}))
            for key in (acme, wrong, node):
                heard.answer(http.post("/ui/sign-in", data={"key": key, "next": "/"}, headers=SAME))
            session = http.cookies["fleet_session"]
            heard.secrets.add(read_key(session)[1])  # type: ignore[index]
            for path in ("/", "/ui/nodes", "/ui/jobs", "/ui/explain?requires=asr:zh"):
                heard.answer(http.get(path))
            heard.answer(http.post("/ui/sign-out", data={"csrf": "0" * 64}, headers=SAME))
            heard.answer(http.get("/metrics", headers=bearer(admin)))
            heard.fleet("submit", "--url", str(http.base_url), "--requires", "asr:zh", FLEET_API_KEY=acme)
            heard.fleet("submit", "--url", str(http.base_url), "--requires", "asr:zh", FLEET_API_KEY=wrong)
            heard.fleet("mirror", "diff", "--url", str(http.base_url), FLEET_API_KEY=admin)
            heard.fleet("mirror", "diff", "--url", str(http.base_url), FLEET_API_KEY=acme)
            for line in LOOKS:
                heard.fleet(*line.split())
            heard.fleet("apikeys", "rotate", acme.split("_")[1])
            heard.fleet("apikeys", "revoke", node.split("_")[1])
            heard.processes()
            # a password that is not the right one, and an address that cannot be
            bad = heard.url.replace("@", "x@")
            for words in (("nodes",), ("apikeys", "list"), ("doctor",), ("library", "load"), ("top", "--once")):
                heard.fleet(*words, url=bad)
            heard.fleet("nodes", url=f"{heard.url}0000000")
            heard.fleet("nodes", url=heard.url.replace("redis://", "http://"))
            heard.fleet("nodes", url=f"{heard.url}/x?nothing={quote(PASSWORD)}")
            heard.fleet("serve", "--host", "127.1", "--port", str(free_port()), url=heard.url.replace("@", "@["))
            protected.stop()
            for path in ("/readyz", "/", "/v1/pools", "/v1/cluster", "/v1/nodes", "/metrics"):
                heard.answer(http.get(path, headers=bearer(admin)))
                heard.answer(http.get(path, headers=bearer(wrong)))
            heard.fleet("nodes")
            heard.fleet("doctor")
    finally:
        stop([process], 15)
    assert len(heard.said) > 200
    assert list(heard.leaks()) == []


def answered(http: httpx.Client, path: str) -> bool:
    try:
        return http.get(path).is_success
    except httpx.TransportError:
        return False


def test_no_secret_is_stored(protected: EmbeddedServer, tmp_path: Path) -> None:
    heard = Heard(protected, tmp_path)
    heard.log.touch()
    key = heard.fleet("apikeys", "create", "--tenant", "acme", "--role", "submit", status=(0,))
    later = heard.fleet("apikeys", "rotate", key.split("_")[1], "--grace", "1h", status=(0,))
    with redis.Redis(port=protected.port, password=PASSWORD) as client:
        stored = client.hgetall("fleet:{0}:apikeys")
        heard.said.append(("stored", json.dumps({k.decode(): v.decode() for k, v in stored.items()})))
        heard.said.append(("events", str(client.xrange("fleet:{0}:events"))))
    assert len(heard.secrets) == 4
    assert key != later
    assert list(heard.leaks()) == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_no_process_of_a_dev_fleet_has_the_password_in_its_command(protected: EmbeddedServer, tmp_path: Path) -> None:
    heard = Heard(protected, tmp_path)
    port = free_ports_in_a_row(1)
    argv = [str(FLEET), "dev", "--port", str(port), "--replicas", "1", "--nodes", "2", "--no-load"]
    with heard.log.open("wb") as log:
        process = spawn_bound(argv, environ=environ(heard.url), stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as http:
            wait_until(
                lambda: answered(http, "/readyz") and len(http.get("/v1/nodes").json()["nodes"]) == 2, "nodes", 60
            )
        heard.processes()
    finally:
        stop([process], 15)
    assert len(heard.said) >= 3
    assert list(heard.leaks()) == []
