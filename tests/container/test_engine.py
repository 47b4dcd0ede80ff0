"""The starter of an engine never keeps the command from being run: without an engine it says why."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# a command that shows that it was run, and by its status that the status is handed on
_COMMAND = [sys.executable, "-c", "print('ran'); raise SystemExit(3)"]


def engine(path: str) -> "subprocess.CompletedProcess[str]":
    # an engine that answers on this machine must not be found
    environ = os.environ | {"PATH": path, "DOCKER_HOST": "unix:///nowhere/docker.sock"}
    argv = [sys.executable, "-m", "tests.container.engine", *_COMMAND]
    return subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=50, check=False)


def test_without_dockerd_the_command_is_run_all_the_same(tmp_path: Path) -> None:
    done = engine(str(tmp_path))
    assert (done.returncode, done.stdout) == (3, "ran\n")
    assert done.stderr.startswith("no container engine is started: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start an engine")
def test_a_dockerd_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    for tool in ("dockerd", "redis-server", "ldd"):
        (tmp_path / tool).write_text("#!/bin/sh\necho no cgroups here >&2\nexit 1\n", "ascii")
        (tmp_path / tool).chmod(0o755)
    done = engine(f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert (done.returncode, done.stdout) == (3, "ran\n")
    assert "no container engine" in done.stderr
    assert "no cgroups here" in done.stderr or "unshare" in done.stderr
