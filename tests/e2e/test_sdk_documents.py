"""docs/client.md and docs/writing-a-node.md: every block of them is run, in order, on a real fleet."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from scheduler.client import Client, JobState, NewJob
from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import EmbeddedServer
from tests.conftest import Topology
from tests.e2e.conftest import FLEET, Replicas, wait_until

DOCS = Path(__file__).parents[2] / "docs"
REDIS, FIRST, SECOND = "redis://127.0.0.1:6379", "http://127.0.0.1:8080", "http://127.0.0.1:8081"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.slow


def blocks(page: str) -> list[tuple[str, str]]:
    return _BLOCK.findall((DOCS / page).read_text("utf-8"))


Node = Callable[..., None]


@pytest.fixture
def node(redis_url: str) -> Iterator[Node]:
    """Run `fleet node run` with these words."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str, cwd: Path | None = None) -> None:
        environ = os.environ | {"REDIS_URL": redis_url}
        # the load of a busy machine is not what is tried here
        limits = ("--cpu-max", "100", "--mem-max", "100")
        started.append(spawn_bound([FLEET, "node", "run", *words, *limits], environ=environ, cwd=cwd))

    yield start
    stop(started)


def test_every_block_of_the_clients_page_runs(replicas: Replicas, node: Node, tmp_path: Path) -> None:
    first, second = replicas(2)
    node("--id", "node-1", "--slots", "4", "--capabilities", "asr:zh gpu", "--demo")
    with Client(first) as fleet:
        wait_until(lambda: list(fleet.nodes()), "the node has registered", 20)
    found = blocks("client.md")
    assert {language for language, _ in found} == {"python"}
    program = "\n".join(text for _, text in found)
    assert program.count(FIRST) == 2
    script = tmp_path / "page.py"
    script.write_text(program.replace(FIRST, first).replace(SECOND, second), "utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    placed, ended, refused, explained, batch, direct, nodes, pools, event = done.stdout.splitlines()
    assert placed.endswith(" node-1")
    assert ended.startswith("succeeded {")
    assert refused.split()[0] in {"impossible", "unavailable"}
    assert "node-1 ('missing_capability never:offered',)" in explained
    assert batch == "20 placed or waiting"
    assert direct == "talk to inbox://node-1"
    assert (nodes, pools) == ("['node-1']", "['everyone', 'gold'] 0")
    assert event == "job_succeeded node-1"


def test_a_handler_of_the_nodes_page_does_jobs(
    replicas: Replicas, node: Node, redis_url: str, tmp_path: Path
) -> None:
    handler, program = (text for language, text in blocks("writing-a-node.md") if language == "python")
    (line,) = (text for language, text in blocks("writing-a-node.md") if ".venv/bin/fleet" in text)
    (tmp_path / "work.py").write_text(handler, "utf-8")
    words = re.findall(r'"([^"]*)"|(\S+)', line)
    argv = [quoted or plain for quoted, plain in words]
    assert argv[:3] == [".venv/bin/fleet", "node", "run"]
    (url,) = replicas(1)
    node(*argv[3:], cwd=tmp_path)
    with Client(url) as fleet:
        wait_until(lambda: list(fleet.nodes()), "the node has registered", 20)
        job = fleet.wait(fleet.place(NewJob(requires=["echo"], payload={"n": 1})).job.id, deadline_s=20)
        assert (job.state, json.loads(job.result or "")) == (JobState.SUCCEEDED, {"echo": {"n": 1}})
    # the second block stands in a program: with an event loop, and with its last line alive
    alive = program.replace(REDIS, redis_url).replace(
        "# await agent.run()    until agent.leave()", "await agent.run()"
    )
    assert "\nawait agent.run()" in alive
    body = "\n".join(f"    {text}" for text in alive.replace("await agent.run()", LEAVING).splitlines())
    (tmp_path / "program.py").write_text(
        f"import asyncio\n{handler}\nasync def main():\n{body}\nasyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


LEAVING = """task = asyncio.create_task(agent.run())
async with asyncio.timeout(20):
    while agent.incarnation is None:
        await asyncio.sleep(0.01)
print(True)
agent.leave()
await task"""


@pytest.mark.skipif(not (shutil.which("redis-cli") and shutil.which("curl")), reason="needs redis-cli and curl")
def test_each_line_of_the_nodes_page_answers_as_it_says(replicas: Replicas, topology: Topology) -> None:
    if not isinstance(topology, EmbeddedServer):
        pytest.skip("redis-cli speaks to one server here")
    (url,) = replicas(1)
    lines, register, beat = (
        text for language, text in blocks("writing-a-node.md") if language == "sh" and "fleet node run" not in text
    )
    # as a person would type them: one shell, whose redis-cli speaks to the test's server
    tool = f'redis-cli() {{ command redis-cli -e -p {topology.port} "$@"; }}\n'.replace("redis-cli()", "redis_cli()")
    script = tool + lines.replace("redis-cli ", "redis_cli ").replace(FIRST, url)
    done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, timeout=40, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert [line for line in said if not line.isdigit()] == [
        "ok",
        "running",
        '{"text": "hello"}',
        "finished",
        "marked",
        "draining",
        "removed",
    ]

    def run(line: str, **environ: str) -> dict[str, object]:
        done = subprocess.run(
            ["sh", "-euc", line.replace(FIRST, url)],
            env=os.environ | environ,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    registered = run(register)
    assert registered["outcome"] == "registered"
    assert run(beat, INCARNATION=str(registered["incarnation"]))["outcome"] == "ok"
    assert httpx.get(f"{url}/v1/nodes/far", timeout=5).json()["node"]["cpu"] == 12
