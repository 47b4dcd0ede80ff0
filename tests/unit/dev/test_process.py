import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from scheduler.dev.process import spawn_bound, stop
from tests.unit.dev.waiting import gone

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
PARENT = """
import sys, threading, time
from scheduler.dev.process import spawn_bound
def start():
    print(spawn_bound([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
if sys.argv[1] == "main":
    start()
else:
    passing = threading.Thread(target=start)
    passing.start()
    passing.join()
time.sleep(60)
"""


@pytest.mark.parametrize("thread", ["main", "passing"])
def test_sigkill_of_the_parent_ends_the_child(thread: str) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, thread], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid, 0.3)
        parent.send_signal(signal.SIGKILL)
    assert gone(pid)


def test_a_child_outlives_the_passing_thread_that_asked_for_it() -> None:
    children: list[subprocess.Popen[bytes]] = []
    passing = threading.Thread(target=lambda: children.append(spawn_bound(SLEEP, stdout=subprocess.PIPE)))
    passing.start()
    passing.join(10)
    (child,) = children
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        assert not gone(child.pid, 0.3)
        stop([child])
    assert child.returncode == -signal.SIGTERM


def test_a_child_whose_parent_is_already_gone_does_not_start(tmp_path: Path) -> None:
    mark = tmp_path / "started"
    # A middle process forks the launcher's command with its own pid and is gone before the launcher looks.
    middle = (
        "import os, subprocess, sys; from scheduler.dev import process; r, w = os.pipe()\n"
        "code = f'import os; os.read({r}, 1)\\n' + process._BOUND\n"
        "argv = [sys.executable, '-c', code, str(os.getpid()), '9', '/usr/bin/touch', sys.argv[1]]\n"
        "print(subprocess.Popen(argv, pass_fds=[r], stderr=subprocess.DEVNULL).pid, flush=True); os._exit(0)"
    )
    run = subprocess.run([sys.executable, "-c", middle, str(mark)], stdout=subprocess.PIPE, check=True, timeout=20)
    assert gone(int(run.stdout))
    assert not mark.exists()


def test_the_child_is_the_program_itself_with_its_own_pid_arguments_and_session() -> None:
    code = "import os, sys; print(os.getpid(), os.getsid(0), sys.argv[1:])"
    with spawn_bound([sys.executable, "-c", code, "a b", "$HOME"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read().decode() == f"{child.pid} {child.pid} ['a b', '$HOME']\n"


def test_the_virtualenv_of_an_interpreter_is_kept() -> None:
    with spawn_bound([sys.executable, "-c", "import sys; print(sys.prefix)"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read().decode().strip() == sys.prefix


def test_a_program_that_is_not_there_is_refused_at_once() -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        spawn_bound(["no-such-program"])
    with pytest.raises(FileNotFoundError, match="python"):
        spawn_bound(["python3"], environ={"PATH": "/nowhere"})


def test_stop_kills_a_child_that_does_not_heed_sigterm() -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    with spawn_bound([sys.executable, "-c", code], stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout is not None
        assert deaf.stdout.readline() == b"up\n"
        stop([deaf], patience_s=0.2)
    assert deaf.returncode == -signal.SIGKILL


def test_another_death_signal_lets_the_child_end_in_its_own_way(tmp_path: Path) -> None:
    mark = tmp_path / "ended"
    child = (
        "import pathlib, signal, sys, time\n"
        f"signal.signal(15, lambda *_: (pathlib.Path({str(mark)!r}).touch(), sys.exit()))\n"
        "print('up', flush=True); time.sleep(60)"
    )
    parent_code = (
        "import subprocess, sys, time; from scheduler.dev.process import spawn_bound\n"
        "c = spawn_bound([sys.executable, '-c', sys.argv[1]], death_signal=15, stdout=subprocess.PIPE)\n"
        "c.stdout.readline(); print(c.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", parent_code, child], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
    assert gone(pid)
    assert mark.exists()
