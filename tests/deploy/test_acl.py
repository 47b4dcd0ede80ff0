"""The roles of deploy/acl/users.acl on real servers of both kinds: what each can do, and what it cannot."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from scheduler.dev.server import Prefer
from scheduler.store.library import source_folder
from tests.deploy.roles import FUNCTIONS, KINDS, ROLES, USERS, P, Secured, digest, password, raw_client, secured

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "access.md"
_ROW = re.compile(r"^\| ([^|]+) \| `([^`]+)` \| (yes|no) \| (yes|no) \| (yes|no) \| (yes|no) \|$", re.MULTILINE)


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured(cast("Prefer", request.param), tmp_path_factory.mktemp("acl")) as running:
        yield running


def refused(client: redis.Redis, *words: str) -> bool:
    """Whether the user may not do this at all; any other answer or error is that of a command that ran."""
    try:
        client.execute_command(*words)
    except redis.exceptions.NoPermissionError:
        return True
    except redis.exceptions.ResponseError as error:
        if "INTERNAL" in str(error):
            pytest.fail(f"a function lacks a command or a key: {words}: {error}")
    return False


def test_every_function_has_a_row() -> None:
    files = {path.stem for path in source_folder().glob("*.lua")} - {"prelude"}
    assert files == set(FUNCTIONS), "tests/deploy/roles.py says who may call each function"
    assert {role for roles in FUNCTIONS.values() for role in roles.split()} <= set(ROLES)


def test_each_role_may_call_the_functions_of_its_rows_and_no_other(server: Secured) -> None:
    calls = Counter[str]()
    for name, roles in FUNCTIONS.items():
        for role in ROLES[1:]:
            with server.client(role) as client:
                read_only = role == "inspector"
                may = not refused(client, "FCALL_RO" if read_only else "FCALL", f"fleet1_{name}", "1", P)
                assert may == (role in roles.split()), (role, name)
                assert refused(client, "FCALL", f"fleet1_{name}", "1", P) or not read_only
                calls[role] += may
    print(f"functions that may be called, of {len(FUNCTIONS)}: {dict(calls)}")


def test_the_page_says_what_each_role_can_do(server: Secured) -> None:
    rows = _ROW.findall(PAGE.read_text("utf-8"))
    assert len(rows) > 40
    allowed: Counter[str] = Counter()
    for what, line, *told in rows:
        words = shlex.split(line)
        for role, word in zip(ROLES, told, strict=True):
            if role == "admin":
                # asked, not done: it would stop the server
                may = server.ask("ACL", "DRYRUN", role, *words) == b"OK"
            else:
                with server.client(role) as client:
                    may = not refused(client, *words)
            assert may == (word == "yes"), f"{role} to {what}: {line}"
            allowed[role] += may
    print(f"of {len(rows)} probes allowed: {dict(allowed)}")


def test_nobody_without_a_password_is_answered(server: Secured) -> None:
    with (
        raw_client(server.server.port, None, None) as nobody,
        pytest.raises(redis.exceptions.AuthenticationError),
    ):
        nobody.ping()
    for role in ROLES:
        with (
            raw_client(server.server.port, role, "guessed") as liar,
            pytest.raises(redis.exceptions.AuthenticationError, match="invalid username-password"),
        ):
            liar.ping()


def test_the_file_is_refused_whole_while_a_password_is_left_out(server: Secured) -> None:
    path = server.server.folder / "users.acl"
    edited = path.read_text("ascii")
    before: Any = server.ask("ACL", "LIST")
    try:
        path.write_text(USERS.read_text("ascii"), "ascii")
        with pytest.raises(redis.ResponseError, match="password hash"):
            server.ask("ACL", "LOAD")
        assert server.ask("ACL", "LIST") == before
    finally:
        path.write_text(edited, "ascii")


def test_a_password_is_changed_without_a_stop(server: Secured) -> None:
    path = server.server.folder / "users.acl"
    edited = path.read_text("ascii")
    old, new = (digest(word) for word in (password("node"), "another"))
    try:
        with raw_client(server.server.port, "node", "another") as changed:
            path.write_text(edited.replace(f"#{old}", f"#{old} #{new}"), "ascii")
            server.ask("ACL", "LOAD")
            with server.client("node") as present:
                assert present.execute_command("PING")
                assert changed.ping()
                path.write_text(edited.replace(f"#{old}", f"#{new}"), "ascii")
                server.ask("ACL", "LOAD")
                server.ask("CLIENT", "KILL", "USER", "node")
                with pytest.raises(redis.exceptions.AuthenticationError):
                    present.execute_command("PING")
            changed.connection_pool.disconnect()
            assert changed.ping()
    finally:
        path.write_text(edited, "ascii")
        server.ask("ACL", "LOAD")
