"""docs/observing.md: its commands run, in order, and each line of its tables is true of a real log or trace."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import EmbeddedServer, free_port
from tests.e2e.collector import Collector
from tests.e2e.conftest import FLEET, environ, wait_until

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "observing.md").read_text("utf-8")
SERVES = re.compile(r"\bfleet (serve|node run)\b")


@pytest.fixture
def started() -> Iterator[list["subprocess.Popen[bytes]"]]:
    running: list[subprocess.Popen[bytes]] = []
    yield running
    stop(running)


def _there(url: str, started: int) -> bool:
    """The replica, and after it the node."""
    try:
        ready = httpx.get(f"{url}/readyz", timeout=2).status_code == 200
        return ready and (started == 1 or bool(httpx.get(f"{url}/v1/nodes", timeout=2).json()["nodes"]))
    except httpx.TransportError:
        return False


@pytest.mark.one_shard("types the keys of one shard")
@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not on PATH")
@pytest.mark.timeout(120)
def test_every_command_of_the_page_runs(
    redis_url: str, server: EmbeddedServer, tmp_path: Path, started: list["subprocess.Popen[bytes]"]
) -> None:
    own = tmp_path / "bin"
    own.mkdir()
    cli = own / "redis-cli"
    cli.write_text(f'#!/bin/sh\nexec {shutil.which("redis-cli")} -p {server.port} "$@"\n', "utf-8")
    cli.chmod(0o755)
    port = free_port()
    given = environ(redis_url)
    given |= {"PATH": f"{own}:{FLEET.parent}:{given['PATH']}", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    said = []
    with Collector() as collector:
        text = PAGE.replace("http://127.0.0.1:8080", f"http://127.0.0.1:{port}")
        text = text.replace("http://127.0.0.1:4318", collector.url)
        blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        assert len(blocks) == 4
        for block in blocks:
            if SERVES.search(block):
                # exec: or the shell would be ended alone
                line = re.sub(r"\bfleet (serve|node)", r"exec fleet \1", block.strip(), count=1)
                line = line.replace("fleet serve", f"fleet serve --port {port}").replace(
                    "--demo", "--demo --cpu-max 100 --mem-max 100"
                )
                started.append(spawn_bound(["sh", "-c", line], environ=given, cwd=tmp_path))
                wait_until(lambda: _there(f"http://127.0.0.1:{port}", len(started)), "it is there", 30)
                continue
            done = subprocess.run(
                ["sh", "-ec", block], env=given, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
            )
            assert (done.returncode, done.stderr) == (0, ""), block
            said.append(done.stdout)
        assert '"request_id":"my-request-1"' in said[0]
        assert '"event": "request_answered"' in said[0]
        assert said[1].strip() == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        spans = collector.wait(lambda spans: any(span.name == "run job" for span in spans))
    assert spans[0].trace == "0af7651916cd43dd8448eb211c80319c"


def test_the_tables_name_what_the_code_says() -> None:
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "scheduler").rglob("*.py"))
    events = set(re.findall(r'log\.\w+\(\s*(?:Line\(\s*)?"(\w+_\w+)"', sources))
    assert len(events) >= 15
    told = PAGE.partition("| event | says |")[2].partition("\n\n")[0] + "`request_answered`"
    assert events == set(re.findall(r"`(\w+_\w+)`", told))
    attributes = set(re.findall(r'"(fleet\.[a-z_.]+)"', (ROOT / "scheduler/http/placing.py").read_text("utf-8")))
    assert attributes - {"fleet.limit"} <= set(re.findall(r"`(fleet\.[a-z_.]+)`", PAGE))
