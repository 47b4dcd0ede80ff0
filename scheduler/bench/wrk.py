"""wrk as the client of a benchmark: one thread, one body, and no answer but the expected one."""

import shutil
import subprocess
from pathlib import Path

import msgspec

from scheduler.errors import BenchmarkFailed

SCRIPT = Path(__file__).with_name("post.lua")


class Run(msgspec.Struct, frozen=True):
    """What one run saw; `statuses` counts the answers, `broken` what went wrong below HTTP."""

    seconds: float
    p50_ms: float
    p99_ms: float
    broken: int
    statuses: dict[int, int]

    def rate(self, expected: int = 201) -> float:
        """Expected answers a second; a run that saw anything else measured something else."""
        count = self.statuses.get(expected, 0)
        if self.broken or count == 0 or len(self.statuses) > 1:
            raise BenchmarkFailed(f"wrk saw {self.statuses}, {self.broken} broken, where only {expected} may be")
        return count / self.seconds


def read_run(said: str) -> Run:
    """The last line, which our script writes behind what wrk prints for people."""
    last = said.rstrip().rpartition("\n")[2]
    try:
        return msgspec.json.decode(last, type=Run, strict=False)
    except msgspec.DecodeError as error:
        raise BenchmarkFailed(f"wrk ended with {last[-200:]!r}: {error}") from error


def drive(url: str, body: bytes, *, connections: int, seconds: float) -> Run:
    """POST the body for so many whole seconds, at least one, over so many connections, each with one request out."""
    tool = shutil.which("wrk")
    if tool is None:
        raise BenchmarkFailed("wrk is not on PATH (Debian: apt-get install wrk)")
    options = ["-t1", f"-c{connections}", f"-d{max(round(seconds), 1)}s", "-s", str(SCRIPT)]
    ran = subprocess.run(
        [tool, *options, url, "--", body.decode()], capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    if ran.returncode:
        raise BenchmarkFailed(f"wrk: {ran.stderr.strip() or ran.stdout.strip()}")
    return read_run(ran.stdout)
