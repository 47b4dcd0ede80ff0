"""The README's node, played line by line with the real redis-cli while a real curl places a job on it."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import redis

from scheduler.dev.server import EmbeddedServer
from tests.e2e.conftest import Replicas, wait_until
from tests.sharded import Shards

README = Path(__file__).parents[2] / "README.md"
HEADING = "## A node in five redis-cli lines"
MISSING = [tool for tool in ("redis-cli", "curl", "sh") if shutil.which(tool) is None]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not on PATH: {', '.join(MISSING)}")


def blocks() -> list[list[str]]:
    """The lines of each sh block under the heading."""
    _, found, rest = README.read_text("utf-8").partition(f"{HEADING}\n")
    assert found, f"README.md has no section {HEADING!r}"
    section = re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    return [text.splitlines() for text in re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)]


class Shell:
    """Runs a line as it stands in the README; variables are what a person would have noted from the answers."""

    def __init__(self, folder: Path, port: int) -> None:
        # the README's redis-cli speaks to the default port, this one adds the test server's
        tool = folder / "redis-cli"
        tool.write_text(f'#!/bin/sh\nexec {shlex.quote(str(shutil.which("redis-cli")))} -p {port} "$@"\n', "utf-8")
        tool.chmod(0o755)
        self.environ = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}

    def start(self, line: str) -> "subprocess.Popen[str]":
        assert all(name in self.environ for name in re.findall(r"\$(\w+)", line)), line
        argv = ["sh", "-uc", line]
        return subprocess.Popen(argv, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def answer(self, process: "subprocess.Popen[str]") -> list[str]:
        try:
            output, errors = process.communicate(timeout=20)
        finally:
            process.kill()
        assert (process.returncode, errors) == (0, "")
        return output.splitlines()

    def run(self, line: str) -> list[str]:
        return self.answer(self.start(line))


@pytest.mark.one_shard("types the keys of the README, which are those of one shard")
def test_the_readmes_node_does_a_job_that_curl_placed(
    shards: Shards, client: redis.Redis, server: EmbeddedServer, replicas: Replicas, tmp_path: Path
) -> None:
    node_lines, (curl_line,) = blocks()
    assert len(node_lines) == 5
    assert all(line.startswith("redis-cli ") for line in node_lines)
    assert curl_line.startswith("curl ")
    register, heartbeat, read, start, finish = node_lines
    node = shlex.split(register)[5]
    url = replicas(1)[0]
    shell = Shell(tmp_path, server.port)

    word, shell.environ["INCARNATION"], pools = shell.run(register)
    assert (word, pools) == ("registered", "default")
    assert shell.run(heartbeat)[0] == "ok"

    reading = shell.start(read)
    wait_until(lambda: client.info("clients")["blocked_clients"], "XREAD waits")
    placed = json.loads("".join(shell.run(curl_line.replace("http://127.0.0.1:8080", url))))
    assert placed["job"]["node"]["id"] == node
    delivered = shell.answer(reading)
    fields = dict(zip(delivered[2::2], delivered[3::2], strict=True))
    assert fields == {"kind": "job", "job": placed["job"]["id"], "fence": str(placed["job"]["fence"])}

    shell.environ |= {"JOB": fields["job"], "FENCE": fields["fence"]}
    word, _, payload, *_ = shell.run(start)
    assert (word, json.loads(payload)) == ("running", {"text": "hello"})
    assert shell.run(finish) == ["finished"]
    job = json.loads("".join(shell.run(f"curl -s {url}/v1/jobs/{fields['job']}")))["job"]
    assert (job["state"], job["node"]["id"], job["result"]) == ("succeeded", node, '{"said": "hello"}')
    assert shards.holding(node) == 0
