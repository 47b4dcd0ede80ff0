"""A real replica, a real node, the README's redis-cli lines and a thief, each with the password of its role."""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import redis
from redis.asyncio.cluster import RedisCluster

from scheduler.dev.load import wait_ready
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import Prefer, free_port
from tests.deploy.roles import KINDS, P, Secured, password, raw_client, secured
from tests.e2e.conftest import FLEET, wait_until

README = Path(__file__).parents[2] / "README.md"
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "REDIS_"))}

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(params=KINDS)
def secure(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Secured]:
    with secured(cast("Prefer", request.param), tmp_path) as running:
        yield running


@pytest.fixture
def fleet() -> Iterator[Start]:
    """Start a `fleet` command; it is ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> "subprocess.Popen[bytes]":
        started.append(spawn_bound([FLEET, *words], environ=ENVIRON))
        return started[-1]

    yield start
    stop(started)


def node_argv(secure: Secured, node: str) -> list[str]:
    argv = ["node", "run", "--id", node, "--slots", "2", "--capabilities", "asr:zh", "--demo", "--cpu-max", "100"]
    return [*argv, "--mem-max", "100", "--redis-url", secure.url("node")]


def ended(http: httpx.Client, job: str) -> str:
    return str(http.get(f"/v1/jobs/{job}?wait_ms=10000").json()["job"]["state"])


@pytest.mark.slow
def test_a_replica_and_a_node_live_on_the_passwords_of_their_roles(secure: Secured, fleet: Start) -> None:
    port = free_port()
    fleet("serve", "--redis-url", secure.url("scheduler"), "--port", str(port))
    url = f"http://127.0.0.1:{port}"
    asyncio.run(wait_ready([url], 30))
    first = fleet(*node_argv(secure, "n1"))
    with httpx.Client(base_url=url, timeout=15) as http:
        wait_until(lambda: http.get("/v1/nodes").json()["nodes"], "the node is there", 20)
        assert http.put(
            "/v1/pools/gold", json={"selector": {"capabilities": ["asr:zh"]}, "tenants": ["*"]}
        ).is_success
        body = {"requires": ["asr:zh"], "session": "s1", "affinity": "sticky", "payload": {"x": 1}, "wait_ms": 20_000}
        jobs = [http.post("/v1/jobs", json=body).json()["job"]["id"] for _ in range(8)]
        assert {ended(http, job) for job in jobs} == {"succeeded"}
        # a node that is killed: its jobs become orphans, are reaped and placed again
        second = fleet(*node_argv(secure, "n2"))
        wait_until(lambda: len(http.get("/v1/nodes").json()["nodes"]) == 2, "a second node", 20)
        jobs = [http.post("/v1/jobs", json=body | {"affinity": "none"}).json()["job"]["id"] for _ in range(6)]
        second.kill()
        assert {ended(http, job) for job in jobs} == {"succeeded"}
        direct = http.post("/v1/jobs", json={"requires": ["asr:zh"], "deliver": "direct", "wait_ms": 9_000}).json()
        job, fence = direct["job"]["id"], direct["job"]["fence"]
        assert http.post(f"/v1/jobs/{job}/start", json={"fence": fence}).is_success
        assert http.post(f"/v1/jobs/{job}/cancel").is_success
        remote = {"endpoint": "http://n3", "slots": 1, "capabilities": ["gpu"]}
        there = http.put("/v1/nodes/n3", json=remote)
        assert there.status_code == 201, there.text
        beat = http.post("/v1/nodes/n3/heartbeat", json={"incarnation": there.json()["incarnation"]})
        assert beat.is_success, beat.text
        for path in ("/", "/metrics", "/v1/cluster", "/v1/nodes/n1", "/v1/pools", "/v1/pools/gold"):
            assert http.get(path).status_code == 200, path
        for path in ("nodes", "nodes/n1", "pools", "jobs", f"jobs/{job}", "explain?requires=asr:zh"):
            assert http.get(f"/ui/{path}").status_code == 200, path
        assert http.post("/v1/explain", json={"requires": ["asr:zh"]}).json()["class"] == "placeable"
        with http.stream("GET", "/v1/events?after=0-0") as events:
            assert any("job_succeeded" in line for line in events.iter_lines())
        assert http.post("/v1/nodes/n3/cordon").is_success
        assert http.delete("/v1/nodes/n3").is_success
    commands = "nodes, pools, jobs, explain --requires asr:zh, events, library status, pools remove gold"
    for command in (line.split() for line in commands.split(", ")):
        argv = [str(FLEET), *command, "--redis-url", secure.url("scheduler")]
        done = subprocess.run(argv, env=ENVIRON, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, done.stderr
    loaded = [str(FLEET), "library", "load", "--redis-url", secure.url("admin")]
    assert "there already" in subprocess.run(loaded, env=ENVIRON, capture_output=True, text=True, check=True).stdout
    first.terminate()
    assert first.wait(20) == 0
    assert secure.ask("EXISTS", f"{P}:node:n1") == 0, "it has left"
    assert secure.denials() == []


def inspector_lines() -> list[str]:
    _, found, rest = README.read_text("utf-8").partition("## Look inside with redis-cli\n")
    assert found
    section = re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^redis-cli .*$", section, re.MULTILINE)


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not on PATH")
def test_the_readmes_redis_cli_lines_work_for_an_inspector(secure: Secured, tmp_path: Path) -> None:
    tool = tmp_path / "redis-cli"
    real = shutil.which("redis-cli")
    tool.write_text(f'#!/bin/sh\nexec {real} -p {secure.server.port} --user inspector "$@"\n', "ascii")
    tool.chmod(0o755)
    environ = ENVIRON | {
        "REDISCLI_AUTH": password("inspector"),
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
    }
    lines = inspector_lines()
    assert len(lines) >= 10
    for line in lines:
        done = subprocess.run(
            ["sh", "-uc", line], env=environ, capture_output=True, text=True, timeout=20, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), line
        assert "NOPERM" not in done.stdout, line
    # a console asks for the commands' documentation when it is opened
    opened = subprocess.run(
        ["redis-cli"], env=environ, input="PING\n", capture_output=True, text=True, timeout=20, check=False
    )
    assert "PONG" in opened.stdout
    assert secure.denials() == []
    print(f"{len(lines)} lines of the README as inspector")


def register(client: redis.Redis, node: str) -> str:
    words: list[str] = ["endpoint", f"http://{node}", "slots", "2", "capabilities", "asr:zh", "ttl_ms", "60000"]
    answer: Any = client.execute_command("FCALL", "fleet1_node_register", 1, P, node, *words)
    return str(answer[1].decode())


@pytest.fixture
def replica(secure: Secured, fleet: Start) -> Iterator[httpx.Client]:
    port = free_port()
    fleet("serve", "--redis-url", secure.url("scheduler"), "--port", str(port))
    url = f"http://127.0.0.1:{port}"
    asyncio.run(wait_ready([url], 30))
    with httpx.Client(base_url=url, timeout=15) as http:
        yield http


def place(http: httpx.Client) -> str:
    body = {"requires": ["asr:zh"], "payload": {"word": "a-secret-payload"}, "session": "s1", "affinity": "sticky"}
    placed = http.post("/v1/jobs", json=body | {"wait_ms": 60_000})
    assert placed.status_code in {201, 202}, placed.text
    return str(placed.json()["job"]["id"])


def test_what_a_stolen_node_password_gets(secure: Secured, replica: httpx.Client) -> None:
    thief, honest = secure.client("node"), secure.client("node")
    incarnation = register(honest, "victim")
    job = place(replica)
    ids: Any = thief.execute_command("ZRANGE", f"{P}:leases", 0, -1)
    assert ids == [job.encode()], "it learns which jobs run"
    delivered: Any = thief.execute_command("XREAD", "STREAMS", f"{P}:node:victim:inbox", 0)
    assert job.encode() in delivered[0][1][0][1], "it reads the inbox of another node"
    payload, fence = thief.execute_command("HMGET", f"{P}:job:{job}", "payload", "fence")
    assert b"a-secret-payload" in payload
    started: Any = thief.execute_command("FCALL", "fleet1_job_start", 1, P, job, fence)
    assert started[0] == b"running"
    done: Any = thief.execute_command("FCALL", "fleet1_job_finish", 1, P, job, fence, "succeeded", "a lie")
    assert done == [b"finished"], "it ends the job of another node"
    assert replica.get(f"/v1/jobs/{job}").json()["job"]["result"] == "a lie"
    register(thief, "victim")
    beat: Any = honest.execute_command("FCALL", "fleet1_node_heartbeat", 1, P, "victim", incarnation)
    assert beat == [b"fenced"], "it takes the id of another node, which stops"
    assert thief.execute_command("HSET", f"{P}:pools", "mine", "{}") == 1, "it writes past the functions"
    never = [
        ["FCALL", "fleet1_job_claim", "1", P, "x"], ["FCALL", "fleet1_pool_put", "1", P, "x", "{}"],
        ["FCALL", "fleet1_job_cancel", "1", P, job], ["DEL", f"{P}:job:{job}"], ["DEL", P], ["UNLINK", P],
        ["DEL", f"{P}:pools"], ["PEXPIRE", P, "1"], ["RENAME", P, f"{P}:x"], ["SCAN", "0"], ["KEYS", "*"],
        ["XRANGE", f"{P}:events", "-", "+"], ["FLUSHALL"], ["FLUSHDB"], ["SWAPDB", "0", "1"], ["CONFIG", "GET", "*"],
        ["ACL", "LIST"], ["ACL", "SETUSER", "node", "+@all"], ["FUNCTION", "DELETE", "fleet1"], ["FUNCTION", "FLUSH"],
        ["EVAL", "return 1", "0"], ["MONITOR"], ["SLOWLOG", "GET"], ["SHUTDOWN"],
        ["REPLICAOF", "NO", "ONE"], ["CLIENT", "KILL", "TYPE", "normal"], ["CLIENT", "LIST"], ["BGREWRITEAOF"],
        ["SUBSCRIBE", "x"], ["GET", "other:{0}"], ["SET", "other", "x"], ["MIGRATE", "h", "1", "k", "0", "1"],
        ["RESTORE", f"{P}:x", "0", "x"], ["DUMP", f"{P}:job:{job}"], ["COPY", P, f"{P}:x"],
    ]  # fmt: skip
    for words in never:
        with pytest.raises(redis.exceptions.NoPermissionError):
            thief.execute_command(*words)
    print(f"a stolen node password: 7 harms are possible, {len(never)} are refused")
    for client in (thief, honest):
        client.close()


_READS = {
    b"hash": ("HGETALL",), b"string": ("GET",), b"set": ("SMEMBERS",), b"zset": ("ZRANGE", "0", "-1"),
    b"stream": ("XRANGE", "-", "+"),
}  # fmt: skip


def test_an_inspector_reads_all_keys_but_jobs_and_finds_no_payload(secure: Secured, replica: httpx.Client) -> None:
    node = secure.client("node")
    register(node, "n1")
    jobs = [place(replica) for _ in range(3)]
    fence = secure.ask("HGET", f"{P}:job:{jobs[0]}", "fence")
    result = ["succeeded", "a-secret-result"]
    node.execute_command("FCALL", "fleet1_job_finish", 1, P, jobs[0], fence, *result)
    hidden, told = set(), b""
    with secure.client("inspector") as inspector:
        for key in secure.ask("KEYS", "*"):
            kind = secure.ask("TYPE", key)
            command, *rest = _READS[kind]
            try:
                told += repr(inspector.execute_command(command, key, *rest)).encode()
            except redis.exceptions.NoPermissionError:
                hidden.add(key.decode())
        slow = repr(inspector.execute_command("SLOWLOG", "GET", "128"))
    assert hidden == {f"{P}:job:{job}" for job in jobs}
    assert b"a-secret" not in told
    assert jobs[1].encode() in told, "which jobs there are is no secret"
    print(f"{len(hidden)} keys hidden; a payload in the slow log: {'a-secret' in slow}")
    node.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("role", ["scheduler", "node"])
async def test_a_role_reaches_a_redis_cluster(kind: Prefer, role: str, tmp_path: Path) -> None:
    clustered = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with secured(kind, tmp_path, *clustered) as secure:
        secure.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        wait_until(lambda: b"cluster_state:ok" in secure.ask("CLUSTER", "INFO"), "the cluster is up")
        async with RedisCluster.from_url(secure.url(role)) as cluster:
            words = ["n1", "endpoint", "http://n1", "slots", "1", "capabilities", "gpu"]
            answer: Any = await cluster.execute_command("FCALL", "fleet1_node_register", 1, P, *words)
            assert answer[0] == b"registered"
        assert secure.denials() == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_follower_is_promoted_by_a_sentinel_on_the_passwords_of_their_roles(kind: Prefer, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("primary", "follower")]
    for folder in folders:
        folder.mkdir()
    auth = ("--masteruser", "replica", "--masterauth", password("replica"))
    with secured(kind, folders[0], *auth) as primary, secured(kind, folders[1], *auth) as follower:
        primary.ask("HSET", P, "epoch", "x")
        follower.ask("REPLICAOF", "127.0.0.1", primary.server.port)
        wait_until(lambda: follower.ask("HGET", P, "epoch") == b"x", "it follows", 20)
        port, conf = free_port(), tmp_path / "sentinel.conf"
        name = f"monitor m 127.0.0.1 {primary.server.port} 1"
        rest = ["auth-user m sentinel", f"auth-pass m {password('sentinel')}", "down-after-milliseconds m 1000"]
        lines = [f"sentinel {line}\n" for line in (name, *rest)]
        conf.write_text(f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n{''.join(lines)}", "ascii")
        argv = [primary.server.choice.binary or "", conf, "--sentinel"]
        watching = spawn_bound(argv, stdout=subprocess.DEVNULL)
        try:
            with raw_client(port, None, None) as sentinel:
                wait_until(partial(knows_a_replica, sentinel), "the sentinel knows the follower", 30)
                assert primary.denials() == []
                primary.server.kill()
                wait_until(lambda: follower.ask("ROLE")[0] == b"master", "it is promoted", 30)
        finally:
            stop([watching])
        assert follower.denials() == []


def knows_a_replica(sentinel: redis.Redis) -> bool:
    try:
        return bool(sentinel.execute_command("SENTINEL", "REPLICAS", "m"))
    except redis.exceptions.ConnectionError:
        return False
