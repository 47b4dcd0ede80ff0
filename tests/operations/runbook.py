"""The commands of docs/operations.md, section by section, as a person would type them."""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from scheduler.dev.process import spawn_bound, stop
from tests.e2e.test_documents import commands
from tests.e2e.test_redis_cli_node import Shell

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operations.md"
BEHIND = " &"


def lines_of(heading: str) -> list[str]:
    """The lines for a shell between this heading and the next one of any level."""
    _, found, rest = PAGE.read_text("utf-8").partition(f"\n{heading}\n")
    assert found, f"the page has no section {heading!r}"
    section = re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    # blocks that belong to a step of a list are indented
    return list(commands(re.sub(r"^ {3}", "", section, flags=re.MULTILINE)))


class Runbook:
    """Plays lines of a section; leaving it without an error means that each of its lines was played.

    `places` are the addresses and folders of the page and what stands for them here. Variables of a line are what a
    person would have noted. redis-cli speaks to `port` where the line names no other.
    """

    def __init__(self, heading: str, folder: Path, port: int, redis_url: str, places: Mapping[str, str]) -> None:
        self.lines = lines_of(heading)
        self.places = dict(places)
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FLEET_")},
            "PATH": Shell(folder, port).environ["PATH"],
            "REDIS_URL": redis_url,
        }
        self.behind: list[subprocess.Popen[bytes]] = []
        self._played: set[str] = set()

    def _line(self, beginning: str) -> str:
        """The first line that begins so and was not played yet, or else the first at all; with the places of here."""
        matching = [line for line in self.lines if line.startswith(beginning)]
        assert matching, f"no line begins with {beginning!r}"
        line = next((line for line in matching if line not in self._played), matching[0])
        self._played.add(line)
        for there, here in self.places.items():
            line = line.replace(there, here)
        return line

    def play(self, beginning: str, status: int = 0, timeout_s: float = 30) -> str:
        """Run the line to its end, expect this exit status, and answer what it wrote."""
        line = self._line(beginning)
        done = subprocess.run(
            ["sh", "-uc", line],
            env=self.environ,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == status, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def begin(self, beginning: str) -> "subprocess.Popen[bytes]":
        """Start a line that goes on in the background, until it is stopped or the runbook ends."""
        line = self._line(beginning)
        assert line.endswith(BEHIND), line
        argv = shlex.split(re.sub(r"\$(\w+)", lambda name: self.environ[name[1]], line.removesuffix(BEHIND)))
        self.behind.append(spawn_bound(argv, environ=self.environ, cwd=ROOT))
        return self.behind[-1]

    def also(self, *argv: str) -> "subprocess.Popen[bytes]":
        """A process that the page takes for granted: a replica or a node that runs already."""
        program = [str(Path(sys.executable).with_name("fleet")), *argv]
        self.behind.append(spawn_bound(program, environ=self.environ, cwd=ROOT))
        return self.behind[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stop(self.behind)
        if error is None:
            assert [line for line in self.lines if line not in self._played] == []


def ended(process: "subprocess.Popen[bytes]", deadline_s: float = 20) -> int:
    """The exit status of a process that was asked to leave; negative for a signal."""
    end = time.monotonic() + deadline_s
    while (status := process.poll()) is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    return status
