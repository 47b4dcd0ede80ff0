"""`fleet doctor` on real servers: each thing that is wrong is found, with its fix; the rest is left in peace."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from scheduler.dev.server import EmbeddedServer
from scheduler.store.health import PROBES
from scheduler.store.library import read_library
from tests.conftest import divide
from tests.e2e.conftest import FLEET, P, Replicas, Run, environ, fcall, free_ports_in_a_row, register
from tests.sharded import Shards

pytestmark = pytest.mark.one_shard("changes the keys of one shard by hand")

USERS = Path(__file__).parents[2] / "deploy" / "acl" / "users.acl"

Finding = dict[str, str]


def levels(findings: list[Finding], check: str) -> set[str]:
    return {finding["level"] for finding in findings if finding["check"] == check}


@pytest.fixture
def examined(fresh_server: Callable[..., EmbeddedServer]) -> Callable[..., tuple[list[Finding], redis.Redis]]:
    """The findings on a server of this test's own, with the library, and a client of it."""

    def run(
        *args: str, prepare: Callable[[redis.Redis], object] = lambda _: None
    ) -> tuple[list[Finding], redis.Redis]:
        server = fresh_server(*args)
        client = redis.Redis(port=server.port)
        client.function_load(read_library().code)
        prepare(client)
        done = subprocess.run(
            [FLEET, "doctor", "--json"],
            env=environ(server.url),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        told = json.loads(done.stdout)
        assert done.returncode == (0 if told["ok"] else 1), done.stderr
        assert told["ok"] == all(finding["level"] != "fail" for finding in told["findings"])
        assert all(finding["fix"] for finding in told["findings"] if finding["level"] != "ok")
        return told["findings"], client

    return run


def test_a_sound_fleet_is_all_ok(examined: Callable[..., tuple[list[Finding], redis.Redis]]) -> None:
    def prepare(client: redis.Redis) -> None:
        register(Shards(client), "n1", "a")
        client.acl_setuser("default", enabled=True, keys=["*"], commands=["+@all"], passwords=[])

    found, _ = examined("--appendonly", "yes", "--maxmemory", "100mb", prepare=prepare)
    trouble = [finding for finding in found if finding["level"] != "ok"]
    assert [finding["check"] for finding in trouble] == ["access"], trouble
    checks = {finding["check"] for finding in found}
    assert checks >= {"version", "library", "persistence", "eviction", "memory", "copies", "server clock",
                      "shard clock", "reaping", "nodes", "waiting", "user", "fleet"}  # fmt: skip


def test_each_unsound_setting_of_a_server_is_named(
    examined: Callable[..., tuple[list[Finding], redis.Redis]],
) -> None:
    def prepare(client: redis.Redis) -> None:
        client.function_flush()
        client.config_set("min-replicas-to-write", 1)

    found, _ = examined("--maxmemory-policy", "allkeys-lru", prepare=prepare)
    assert levels(found, "eviction") == levels(found, "copies") == levels(found, "library") == {"fail"}
    assert levels(found, "persistence") == levels(found, "memory") == levels(found, "fleet") == {"warn"}
    fix = next(finding["fix"] for finding in found if finding["check"] == "eviction")
    assert fix == "set `maxmemory-policy noeviction`"


def test_what_a_user_may_not_do_is_told(examined: Callable[..., tuple[list[Finding], redis.Redis]]) -> None:
    def prepare(client: redis.Redis) -> None:
        allowed = (f"+fcall|fleet1_{name}" for name, *_ in PROBES.values() if name != "pool_put")
        client.execute_command("ACL", "SETUSER", "default", "-fcall", *allowed, "+fcall|fleet1_library_read")

    found, _ = examined(prepare=prepare)
    user = next(finding for finding in found if finding["check"] == "user")
    assert (user["level"], user["said"]) == ("warn", "the user default may not configure pools")


def test_the_user_of_replicas_may_run_the_commands_that_look(fresh_server: Callable[..., EmbeddedServer]) -> None:
    server = fresh_server()
    rules = next(line for line in USERS.read_text("utf-8").splitlines() if line.startswith("user scheduler "))
    words = [word for word in shlex.split(rules)[2:] if not word.startswith("#")]
    # what stands in parentheses is one rule
    grouped = re.findall(r"\([^)]*\)|\S+", " ".join(words))
    with redis.Redis(port=server.port) as client:
        client.function_load(read_library().code)
        register(Shards(client), "n1", "a")
        client.execute_command("ACL", "SETUSER", "scheduler", *grouped, ">secret")
    url = f"redis://scheduler:secret@127.0.0.1:{server.port}"

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        argv = [str(FLEET), *words]
        done = subprocess.run(argv, env=environ(url), capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done

    user = next(f for f in json.loads(run("doctor", "--json").stdout)["findings"] if f["check"] == "user")
    assert (user["level"], user["said"]) == ("ok", "this user may do all that a replica does")
    assert json.loads(run("top", "--once", "--json").stdout)["nodes"] == 1
    schema = run("schema", "--json")
    assert "may not list keys" in schema.stderr
    assert all(line["example"] is None for line in json.loads(schema.stdout)["keys"])


def late(client: redis.Redis) -> None:
    """A node that went long ago with a job, one in quarantine, a job that waits, and nobody who reaps."""
    register(Shards(client), "n1", "a")
    register(Shards(client), "n2", "a", ttl_ms=100)
    now = int(fcall_clock(client))
    client.hset(f"{P}:node:n1", "quarantined_until_ms", now + 60_000)
    client.zadd(f"{P}:quarantined", {"n1": now + 60_000})
    client.zadd(f"{P}:leases", {"0.gone": now - 10_000})
    client.zadd(f"{P}:nodes", {"n2": now - 10_000})
    client.hset(f"{P}:job:0.waits", mapping={"state": "pending", "created_at_ms": 1_000})
    client.hset(f"{P}:waiting", "d:acme", "{}")
    client.zadd(f"{P}:queue:d:acme", {"0.waits": 1})
    client.zadd(f"{P}:pending", {"0.waits": now + 60_000})


def fcall_clock(client: redis.Redis) -> str:
    held: Any = client.hget(P, "clock")
    return str(held.decode())


def test_what_is_overdue_waits_or_is_set_aside_is_counted(
    examined: Callable[..., tuple[list[Finding], redis.Redis]],
) -> None:
    found, client = examined(prepare=late)
    said = {finding["check"]: finding for finding in found if finding["level"] == "warn"}
    assert said["reaping"]["said"] == "1 leases and 1 nodes are overdue"
    assert "fleet1_reap 1 'fleet:{0}'" in said["reaping"]["fix"]
    assert said["nodes"]["said"] == "of 2 nodes 0 are lost and 1 quarantined"
    assert said["waiting"]["said"].startswith("1 jobs wait, the oldest for ")
    fcall(Shards(client), "shard_freeze", "freeze")


def test_a_clock_that_stands_still_and_one_that_stepped_back(
    examined: Callable[..., tuple[list[Finding], redis.Redis]],
) -> None:
    def prepare(client: redis.Redis, seen_ms: int) -> None:
        register(Shards(client), "n1", "a")
        client.hincrby(P, "clock_seen_at_ms", seen_ms)

    for seen_ms, said in ((-60_000, "it stands still"), (60_000, "the server's clock stepped back")):
        found, _ = examined(prepare=lambda client, by=seen_ms: prepare(client, by))
        clock = next(finding for finding in found if finding["check"] == "shard clock")
        assert (clock["level"], clock["said"].startswith(said)) == ("warn", True), clock


def test_shards_that_do_not_agree_and_frozen_ones(
    examined: Callable[..., tuple[list[Finding], redis.Redis]],
) -> None:
    def prepare(client: redis.Redis) -> None:
        first, second, third = divide(client, 3)
        fcall(Shards(client), "pool_put", "gold", '{"selector":{"all":true}}')
        client.hset(f"fleet:{{{second}}}", "tags", f"{first} {second}")
        client.execute_command("FCALL", "fleet1_shard_freeze", 1, f"fleet:{{{third}}}", "freeze")

    found, _ = examined(prepare=prepare)
    agree = {finding["at"]: finding["level"] for finding in found if finding["check"] == "shards agree"}
    assert list(agree.values()) == ["ok", "fail", "warn"]  # the third has no copy of the pools yet
    frozen = next(finding for finding in found if finding["check"] == "frozen")
    assert (frozen["level"], frozen["fix"].startswith("once its hash slot has moved: `fleet shard thaw ")) == (
        "fail",
        True,
    )


def test_people_read_lines_with_the_fix_beneath(fleet: Run, client: redis.Redis) -> None:
    register(Shards(client), "n1", "a")
    lines = fleet("doctor").stdout.splitlines()
    assert lines[-1].endswith(" warnings, 0 failures")
    memory = next(number for number, line in enumerate(lines) if line.startswith("warn memory"))
    assert lines[memory + 1].strip() == "set `maxmemory` to 60 % of the machine's memory"


def test_a_replica_that_is_ready_and_one_that_does_not_answer(
    fleet: Run, client: redis.Redis, replicas: Replicas
) -> None:
    register(Shards(client), "n1", "a")
    (url,) = replicas(1)
    nobody = f"http://127.0.0.1:{free_ports_in_a_row(1)}"
    found = json.loads(fleet("doctor", "--json", "--url", url).stdout)["findings"]
    assert levels(found, "replica") == levels(found, "snapshot") == {"ok"}
    found = json.loads(fleet("doctor", "--json", "--url", url, "--url", nobody, status=1).stdout)["findings"]
    assert [finding["at"] for finding in found if finding["level"] == "fail"] == [nobody]


def test_a_server_that_does_not_answer_is_a_finding_too() -> None:
    url = f"redis://127.0.0.1:{free_ports_in_a_row(1)}"
    argv = [str(FLEET), "doctor", "--json"]
    done = subprocess.run(
        argv, env=os.environ | {"REDIS_URL": url}, capture_output=True, text=True, timeout=30, check=False
    )
    (finding,) = json.loads(done.stdout)["findings"]
    assert (done.returncode, finding["check"], finding["level"]) == (1, "reach", "fail")
