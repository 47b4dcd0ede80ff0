"""docs/cli.md: every example runs, in order, on the fleet that the page tells of, and prints what the page says."""

import re
import shlex
import subprocess
from pathlib import Path

import click
import httpx
import pytest

from scheduler.cli.main import fleet as command
from scheduler.dev.server import EmbeddedServer
from tests.conftest import Topology
from tests.e2e.conftest import FLEET, environ, fcall
from tests.e2e.page import lacking
from tests.sharded import Shards

pytestmark = pytest.mark.one_shard("prints what a fleet of one shard says")

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$\n(?:\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
_BLOCKS = _BLOCK.findall(PAGE)
WITH_OUTPUT = [(block.splitlines(), said.splitlines()) for kind, block, said in _BLOCKS if kind == "sh" and said]
LINES = [line for kind, block, _ in _BLOCKS if kind == "sh" for line in block.splitlines()]


def start_nodes(shards: Shards) -> None:
    """The two of the page."""
    for node, slots, offers in (("gpu-1", 4, "gpu llm:qwen3-8b"), ("speech-1", 8, "asr:zh tts:en")):
        endpoint = "http://10.0.0.5:9000"
        fields = ("endpoint", endpoint, "slots", slots, "capabilities", offers, "ttl_ms", 600_000)
        assert fcall(shards, "node_register", node, *fields)[0] == "registered"


@pytest.mark.timeout(180)
def test_each_example_prints_what_the_page_says(
    topology: Topology, shards: Shards, redis_url: str, http: httpx.Client, tmp_path: Path
) -> None:
    if not isinstance(topology, EmbeddedServer):
        pytest.skip("the page tells of one server")
    (tmp_path / "pools.toml").write_text(next(block for kind, block, _ in _BLOCKS if kind == "toml"), "utf-8")
    assert len(WITH_OUTPUT) > 12
    for examples, told in WITH_OUTPUT:
        said = ""
        for example in examples:
            program, *words = shlex.split(example.replace("http://127.0.0.1:8080", str(http.base_url)))
            assert program == ".venv/bin/fleet"
            done = subprocess.run(
                [FLEET, *words],
                env=environ(redis_url),
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == (1 if words[0] == "explain" else 0), (example, done.stdout, done.stderr)
            said += done.stdout.replace(str(http.base_url), "http://127.0.0.1:8080")
        assert list(lacking(told, said)) == [], (examples, said)
        if examples == [".venv/bin/fleet init"]:
            start_nodes(shards)


@pytest.mark.parametrize("line", LINES)
def test_each_option_of_the_page_exists(line: str) -> None:
    found: click.Command = command
    for word in shlex.split(line)[1:]:
        if isinstance(found, click.Group) and (inner := found.get_command(click.Context(found), word)):
            found = inner
    known = {option for parameter in found.params for option in parameter.opts}
    assert {word for word in shlex.split(line)[1:] if re.match("--?[a-z]", word)} <= known


def test_every_command_is_on_the_page() -> None:
    for name in command.list_commands(click.Context(command)):
        assert re.search(rf"^\.venv/bin/fleet {name}\b", PAGE, re.MULTILINE), name
