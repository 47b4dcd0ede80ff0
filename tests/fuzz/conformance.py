"""Schemathesis with all its checks against a live replica: what the API's document says is what the API does."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.stage import Stage

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# It never ends by itself: tests/integration/http/test_events.py is its judge.
STREAMS = ("/v1/events",)


class Run(NamedTuple):
    status: int
    cases: int
    said: str


def conform(stage: Stage, examples: int, seed: int | None = None, timeout_s: float = 3_600) -> Run:
    """So many examples for each route beside those that its schema asks for; without a seed always the same."""
    chosen = (
        ["--generation-deterministic"] if seed is None else ["--seed", str(seed), "--generation-database", "none"]
    )
    argv = [
        str(Path(sys.executable).with_name("st")),
        *("--config-file", str(HERE / "schemathesis.toml")),
        *("run", f"{stage.url}/openapi.json", "--checks", "all", "--continue-on-failure", "--no-color"),
        *("--header", f"Authorization: Bearer {stage.key}"),
        *("--max-examples", str(examples), "--request-timeout", "30"),
        *chosen,
        *(word for path in STREAMS for word in ("--exclude-path", path)),
    ]
    environ = os.environ | {"SCHEMATHESIS_HOOKS": "tests.fuzz.hooks", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        argv, env=environ, cwd=stage.server.folder, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    found = re.search(r"([\d,]+) generated", done.stdout)
    return Run(done.returncode, int(found[1].replace(",", "")) if found else 0, done.stdout + done.stderr)
