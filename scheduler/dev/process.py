"""Child processes that die with us, also when we are killed."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

# The child asks the kernel for a signal at its parent's death, checks that the parent did not die before that, and
# becomes the program. Nothing runs between fork and exec in our own process, so threads do no harm.
_BOUND = """
import ctypes, os, sys
parent, sign = int(sys.argv[1]), int(sys.argv[2])
if sys.platform == "linux":
    ctypes.CDLL(None, use_errno=True).prctl(1, sign, 0, 0, 0)
if os.getppid() != parent:
    sys.exit("the parent is gone")
os.execvp(sys.argv[3], sys.argv[3:])
"""


def spawn_bound(
    argv: Sequence[str | Path],
    *,
    death_signal: int = 9,
    environ: Mapping[str, str] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    cwd: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a program, without a shell, that gets death_signal when this thread's process ends in any way.

    Linux ties the signal to the thread that starts the child: call this from one that lives as long as the child may.
    """
    bound = [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid()), str(death_signal)]
    return subprocess.Popen(
        [*bound, *map(str, argv)],
        env=None if environ is None else dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        cwd=cwd,
        start_new_session=True,
    )


def stop(processes: Sequence["subprocess.Popen[bytes]"], patience_s: float = 5.0) -> None:
    """SIGTERM to all, then SIGKILL to those that do not end in time; returns when every one is gone."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
