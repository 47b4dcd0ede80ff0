"""Child processes that die with us, also when we are killed."""

import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import IO

SPAWN_DEADLINE_S = 30.0

# The child asks the kernel for a signal at its parent's death, checks that the parent did not die before that, and
# becomes the program: same pid, no shell. Nothing of ours runs between fork and exec, so our threads do no harm.
# Python ignores SIGPIPE and exec would hand that down.
_BOUND = """
import ctypes, os, signal, sys
parent, sign = int(sys.argv[1]), int(sys.argv[2])
if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(1, sign, 0, 0, 0):
    sys.exit("prctl: " + os.strerror(ctypes.get_errno()))
if os.getppid() != parent:
    sys.exit("the parent is gone")
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
os.execv(sys.argv[3], sys.argv[3:])
"""

_Work = tuple[Callable[[], "subprocess.Popen[bytes]"], "Future[subprocess.Popen[bytes]]"]


@cache
def _spawner() -> "queue.Queue[_Work]":
    """The inbox of one thread that lives as long as this process; made on first use."""
    inbox: queue.Queue[_Work] = queue.Queue(maxsize=1_000)

    def work() -> None:
        while True:
            start, answer = inbox.get()
            try:
                answer.set_result(start())
            except BaseException as error:  # noqa: BLE001 - it is raised where the child was asked for
                answer.set_exception(error)

    threading.Thread(target=work, name="spawner", daemon=True).start()
    return inbox


# A forked process has the queue but not the thread.
os.register_at_fork(after_in_child=_spawner.cache_clear)


def spawn_bound(
    argv: Sequence[str | Path],
    *,
    death_signal: int = 9,
    environ: Mapping[str, str] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    cwd: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a program, without a shell, that gets death_signal when this process ends in any way.

    Callable from any thread: Linux ties the signal to the thread that forks, so a passing thread has it done by a
    lasting one. Other systems have no such signal; there a child outlives a parent that was killed.
    """
    program, *arguments = map(str, argv)
    found = shutil.which(program, path=None if environ is None else environ.get("PATH", os.defpath))
    if found is None:
        raise FileNotFoundError(f"{program} is not an executable file")
    bound = [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid()), str(death_signal)]

    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [*bound, str(Path(found).absolute()), *arguments],
            env=None if environ is None else dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            start_new_session=True,
        )

    if threading.current_thread() is threading.main_thread():
        return start()
    answer: Future[subprocess.Popen[bytes]] = Future()
    _spawner().put((start, answer), timeout=SPAWN_DEADLINE_S)
    return answer.result(SPAWN_DEADLINE_S)


def stop(processes: Sequence["subprocess.Popen[bytes]"], patience_s: float = 5.0) -> None:
    """SIGTERM to all, SIGKILL to those that still run after patience_s; returns when every one is gone."""
    for process in processes:
        process.terminate()
    end = time.monotonic() + patience_s
    for process in processes:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(patience_s)
