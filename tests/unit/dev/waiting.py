"""Waiting for a process to be gone."""

import time
from pathlib import Path


def gone(pid: int, deadline_s: float = 10) -> bool:
    """Whether the process ends in time; one that only waits to be collected counts as ended."""
    end = time.monotonic() + deadline_s
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
