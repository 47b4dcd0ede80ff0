"""The nodes of examples/nodes, each run as its README says: work, failures, cancels, a second life and a good end."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
import redis

from scheduler.client import Client, FleetError, JobState, NewJob
from scheduler.dev.load import wait_ready
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import EmbeddedServer, free_port
from scheduler.store.library import read_library
from tests.conftest import Topology, divide
from tests.e2e.conftest import FLEET, Replicas, wait_until

EXAMPLES = Path(__file__).parents[2] / "examples" / "nodes"
REDIGO = Path("/usr/share/gocode/src/github.com/gomodule/redigo")
# the shell's job is this command; it does what `handle` does in the other files
HANDLER = """IFS= read -r asked
case $asked in *fail*) exit 1 ;; *sleep*) asked=${asked##*s}; exec sleep "${asked%%[!0-9]*}" ;; esac
printf %s "$asked"
"""


def needs(*programs: str) -> None:
    if missing := [program for program in programs if shutil.which(program) is None]:
        pytest.skip(f"not on PATH: {', '.join(missing)}")


def shell(_: Path) -> tuple[list[str], str]:
    needs("redis-cli", "sh")
    return [str(EXAMPLES / "shell" / "node.sh"), "n1", "work", "sh", "-c", HANDLER], "1"


def nodejs(folder: Path) -> tuple[list[str], str]:
    needs("node", "npm")
    shutil.copytree(EXAMPLES / "nodejs", folder / "nodejs", ignore=shutil.ignore_patterns("node_modules"))
    npm = ["npm", "install", "--no-audit", "--no-fund", "--prefer-offline"]
    done = subprocess.run(npm, cwd=folder / "nodejs", capture_output=True, text=True, timeout=50, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot install: {done.stderr[-300:]}")
    return ["node", str(folder / "nodejs" / "node.js"), "n1", "work", "2"], "2"


def go(folder: Path) -> tuple[list[str], str]:
    needs("go")
    if not REDIGO.exists():
        pytest.skip("redigo is not installed: golang-github-gomodule-redigo-dev")
    environ = os.environ | {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(folder / "cache")}
    build = ["go", "build", "-o", str(folder / "node"), "."]
    done = subprocess.run(
        build, cwd=EXAMPLES / "go", env=environ, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    return [str(folder / "node"), "n1", "work", "2"], "2"


pytestmark = pytest.mark.slow
Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture(scope="module", params=[shell, nodejs, go])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], str]:
    """What starts the node, and its slots."""
    made: tuple[list[str], str] = request.param(tmp_path_factory.mktemp("node"))
    return made


@pytest.fixture
def node(built: tuple[list[str], str], topology: Topology, client: redis.Redis) -> Iterator[tuple[Start, int]]:
    """Start the node, on a fleet of four shards; answers its slots, too."""
    if not isinstance(topology, EmbeddedServer):
        pytest.skip("the examples speak to one server")
    argv, slots = built
    divide(client, 4)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    started: list[subprocess.Popen[bytes]] = []

    def start() -> "subprocess.Popen[bytes]":
        started.append(spawn_bound(argv, death_signal=signal.SIGTERM, environ=environ | {"REDIS_URL": topology.url}))
        return started[-1]

    yield start, int(slots)
    stop(started)


def work(payload: object) -> NewJob:
    # a job that is handed back must not wait for a node that is gone
    return NewJob(requires=["work"], payload=payload)


@pytest.mark.timeout(120)
def test_a_node_in_another_language_lives_as_ours_do(node: tuple[Start, int], replicas: Replicas) -> None:
    start, slots = node
    (url,) = replicas(1)
    with Client(url) as fleet:
        process = start()
        alone = partial(_alone, fleet, slots)
        wait_until(alone, "the node has registered", 30)
        incarnation = next(fleet.nodes()).incarnation

        for text in ("hello", "zwei Wörter, \"quoted\" and 'so'", "$HOME `id`"):
            job = fleet.wait(fleet.place(work({"text": text})).job.id, deadline_s=20)
            assert job.state is JobState.SUCCEEDED, job
            assert text in (job.result or "").replace('\\"', '"')

        failed = fleet.wait(fleet.place(work({"fail": "on purpose"})).job.id, deadline_s=20)
        assert (failed.state, failed.reason) == (JobState.FAILED, "handler_failed")

        long = fleet.place(work({"sleep_ms": 30_000, "or": "s30"})).job.id
        wait_until(lambda: fleet.job(long).state is JobState.RUNNING, "it has begun")
        assert fleet.cancel(long) == "cancelled"
        wait_until(alone, "the handler was stopped and the slot is free", 10)

        # an operator takes it out while it lives: it comes again, as a new incarnation
        assert httpx.delete(f"{url}/v1/nodes/n1", timeout=10).status_code == 200
        wait_until(alone, "it has registered again", 10)
        assert next(fleet.nodes()).incarnation > incarnation
        assert fleet.wait(fleet.place(work({"text": "again"})).job.id, deadline_s=20).state is JobState.SUCCEEDED

        # another process takes the id, and only that one goes on
        first, process = process, start()
        assert first.wait(15) == 3
        wait_until(alone, "the second one has registered", 10)

        # it leaves: what it has begun is finished, and nothing new comes to it
        last = fleet.place(work({"sleep_ms": 2_000, "or": "s2"})).job.id
        wait_until(lambda: fleet.job(last).state is JobState.RUNNING, "the last job has begun")
        process.terminate()
        ended = fleet.wait(last, deadline_s=20)
        assert ended.state is JobState.SUCCEEDED, ended
        assert process.wait(20) == 0
        wait_until(partial(_gone, fleet), "it has left the fleet")
        with pytest.raises(FleetError):
            fleet.place(work({}), patient=False)


def _gone(fleet: Client) -> bool:
    return not list(fleet.nodes())


@pytest.mark.timeout(120)
def test_a_node_goes_on_over_an_outage_of_redis(
    built: tuple[list[str], str], fresh_server: Callable[..., EmbeddedServer]
) -> None:
    argv, slots = built
    server = fresh_server("--appendonly", "yes", "--appendfsync", "always")
    with redis.Redis(port=server.port, socket_timeout=10) as plain:
        plain.execute_command("FUNCTION", "LOAD", read_library().code)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    serve = [str(FLEET), "serve", "--redis-url", server.url, "--port", str(port)]
    started = [spawn_bound(words, environ=environ | {"REDIS_URL": server.url}) for words in (serve, argv)]
    try:
        asyncio.run(wait_ready([url], 30))
        with Client(url) as fleet:
            wait_until(partial(_alone, fleet, int(slots)), "the node has registered", 30)
            begun = fleet.place(work({"sleep_ms": 1_000, "or": "s1"})).job.id
            wait_until(lambda: fleet.job(begun).state is JobState.RUNNING, "it has begun")
            server.kill()
            # it ends while nobody can be told
            time.sleep(2)
            server.start()
            ended = fleet.wait(begun, deadline_s=20)
            assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1)
            late = fleet.place(work({"text": "after"}), deadline_s=20)
            assert fleet.wait(late.job.id, deadline_s=20).state is JobState.SUCCEEDED
    finally:
        stop(started)


def _alone(fleet: Client, slots: int) -> bool:
    """Registered, with every slot free."""
    return [(n.id, n.state, n.slots, n.used) for n in fleet.nodes()] == [("n1", "ready", slots, 0)]


LINES = [
    line
    for block in re.findall(
        r"^```sh\n(.*?)^```$", (EXAMPLES / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    for line in block.splitlines()
    if not line.startswith("apt-get ")
]


def test_the_readme_starts_each_example() -> None:
    assert [re.sub(r".* (node-\w+) .*", r"\1", line) for line in LINES] == ["node-sh", "node-js", "node-go"]


@pytest.mark.parametrize(("prepare", "line"), list(zip([shell, nodejs, go], LINES, strict=True)))
def test_the_line_of_the_readme_starts_a_node(
    prepare: Callable[[Path], object], line: str, topology: Topology, replicas: Replicas, tmp_path: Path
) -> None:
    if not isinstance(topology, EmbeddedServer):
        pytest.skip("the examples speak to one server")
    prepare(tmp_path)
    # the lines are typed in the repository, which must stay as it is
    ignored = shutil.ignore_patterns("node_modules")
    shutil.copytree(EXAMPLES, tmp_path / "here" / "examples" / "nodes", ignore=ignored)
    if (installed := tmp_path / "nodejs" / "node_modules").exists():
        # what npm would only fetch again
        installed.rename(tmp_path / "here" / "examples" / "nodes" / "nodejs" / "node_modules")
    (url,) = replicas(1)
    environ = os.environ | {"REDIS_URL": topology.url}
    process = spawn_bound(["sh", "-c", line], environ=environ, cwd=tmp_path / "here")
    with Client(url) as fleet:
        try:
            wait_until(lambda: [n.id for n in fleet.nodes()] == [re.findall(r"node-\w+", line)[-1]], line, 40)
        finally:
            # the shell that was typed into may go before the node does
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)
        wait_until(partial(_gone, fleet), "it has left the fleet", 20)
