"""Replicas and nodes as processes of their own, whose stderr a test can read."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

from scheduler.dev.process import spawn_bound
from scheduler.dev.server import free_port
from tests.e2e.conftest import FLEET, wait_until

# its first attempt fails, and what it knows of its trace is its result
HANDLER = """
import sys, logging
log = logging.getLogger("theirs")

async def handle(job):
    if "opentelemetry.trace" in sys.modules:
        from opentelemetry import trace
        known = trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)
    else:
        known = "nothing is imported"
    log.warning("at work on %s", known)
    if job.payload == '"fail once"' and job.attempt == 1:
        raise ValueError("the first attempt fails")
    return f"{job.traceparent} {known} {job.attempt}"
"""
# an interpreter that cannot find OpenTelemetry, as without the extra
WITHOUT = "import sys; sys.modules['opentelemetry'] = None; from scheduler.cli.main import main; main()"


class Processes:
    """Replicas and nodes of this test, each with its stderr in a file."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.started: list[subprocess.Popen[bytes]] = []
        (folder / "theirs.py").write_text(HANDLER, "utf-8")

    def start(
        self, *words: str, without: bool = False, environ: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        given = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "OTEL_"))}
        given |= {"REDIS_URL": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50", **(environ or {})}
        argv = [sys.executable, "-c", WITHOUT] if without else [str(FLEET)]
        with (self.folder / f"stderr{len(self.started)}").open("wb") as errors:
            self.started.append(spawn_bound([*argv, *words], environ=given, cwd=self.folder, stderr=errors))
        return self.started[-1]

    def said(self, number: int) -> str:
        return (self.folder / f"stderr{number}").read_text("utf-8")

    def replica(self, environ: Mapping[str, str] | None = None, *, without: bool = False) -> str:
        port = free_port()
        self.start("serve", "--port", str(port), without=without, environ=environ)
        url = f"http://127.0.0.1:{port}"

        def ready() -> bool:
            try:
                return httpx.get(f"{url}/readyz", timeout=2).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(ready, "the replica is ready", 30)
        return url

    def node(
        self, node: str, environ: Mapping[str, str] | None = None, *, without: bool = False
    ) -> "subprocess.Popen[bytes]":
        words = ["--id", node, "--slots", "1", "--capabilities", "a", "--handler", "theirs:handle"]
        limits = ["--cpu-max", "100", "--mem-max", "100", "--heartbeat-ms", "100"]
        return self.start("node", "run", *words, *limits, without=without, environ=environ)
