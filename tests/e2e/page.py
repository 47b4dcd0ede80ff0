"""A page of docs/ as its reader follows it: each block in order, in one shell, and what the page says of each."""

import contextlib
import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"into `([\w.]+)`:\s*\Z")
_TERMINAL = re.compile(r"in the (first|second|third) terminal", re.IGNORECASE)
_DONE = "--- the block has ended:"


@dataclass(frozen=True)
class Step:
    """One block for a shell or a file, with the words before it; `told` is the `text` block right behind it."""

    kind: str
    text: str
    told: str
    file: str
    terminal: str
    said_before: str


def steps(page: str) -> list[Step]:
    """The blocks of the page in order; a `text` block with other words before it is a step of its own."""
    text = (DOCS / page).read_text("utf-8")
    found: list[Step] = []
    end = 0
    for block in _BLOCK.finditer(text):
        kind, inner = block.groups()
        before, end = text[end : block.start()], block.end()
        if kind == "text" and found and not before.strip() and not found[-1].told:
            last = found.pop()
            found.append(Step(last.kind, last.text, inner, last.file, last.terminal, last.said_before))
            continue
        file, terminal = _FILE.search(before), _TERMINAL.findall(before)
        told = inner if kind == "text" else ""
        name = terminal[-1] if terminal else "second"
        found.append(Step(kind, "" if told else inner, told, file[1] if file else "", name, before))
    return found


def pattern(line: str, *, exact: bool = False) -> str:
    """The line of the page for any figures, any width of columns, and anything where it has dots.

    exact: figures of up to three digits are what they are; longer ones are instants, fences, sizes, ids in a stream.
    """
    told = re.sub(r"\s+", " ", line.strip())
    free = r"\d{4}[\d.,]*(?:-\d+)?" if exact else r"\d[\d.,]*\d|\d"
    held = "".join(
        ".*" if part == "…" else r"[\d.,-]+" if re.fullmatch(free, part) else re.escape(part)
        for part in re.split(f"(…|{free})", told)
    )
    return held.replace(r"\ ", " ")


def lacking(told: list[str], said: str, *, exact: bool = False) -> Iterator[str]:
    """Lines of the page that are not in the output, in their order; a line of dots is any number of lines."""
    lines = iter([re.sub(r"\s+", " ", line.strip()) for line in said.splitlines()])
    for line in told:
        if line != "…" and not any(re.fullmatch(pattern(line, exact=exact), found) for found in lines):
            yield line
            return


def shown(told: str, said: str, *, exact: bool = False) -> None:
    """Fail unless the output has the lines of the page in their order, and no others unless one of them is dots."""
    lines = told.splitlines()
    missing = list(lacking(lines, said, exact=exact))
    assert missing == [], f"the page says {missing[0]!r}, but there was:\n{said}"
    if "…" not in lines:
        assert len(lines) == len(said.splitlines()), f"the page says:\n{told}\nbut there was:\n{said}"


def plain_environ(**more: str) -> dict[str, str]:
    """What a reader's shell has: nothing of ours, no colours, columns enough for each table."""
    kept = {
        name: value for name, value in os.environ.items() if name != "REDIS_URL" and not name.startswith("FLEET_")
    }
    return kept | {"COLUMNS": "200", "TZ": "UTC", "PYTHONUNBUFFERED": "1"} | more


class Terminal:
    """A shell that keeps its folder and its variables from block to block."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["sh"],
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._stdin = self._process.stdin
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        # Ctrl-C is for what runs in the shell, as at a terminal
        self._type("trap : INT")

    def _read(self, output: IO[str]) -> None:
        for line in output:
            self._lines.put(line)
        self._lines.put(None)

    def _type(self, block: str) -> None:
        self._stdin.write(f"{block}\n")
        self._stdin.flush()

    def begin(self, block: str) -> None:
        """Type a block that goes on until somebody presses Ctrl-C."""
        self._type(f"{block}\necho '{_DONE}' $?")

    def press_ctrl_c(self) -> None:
        os.killpg(self._process.pid, signal.SIGINT)

    def rest(self, deadline_s: float = 30) -> tuple[str, int]:
        """What came on the screen until the block had ended, and the exit status of its last line."""
        said = self._until(lambda said: _DONE in said, deadline_s, "the end of the block")
        before, _, status = said.rpartition(_DONE)
        return before, int(status)

    def play(self, block: str, deadline_s: float = 30) -> tuple[str, int]:
        """Type a block; what came on the screen, and the exit status of its last line."""
        self.begin(block)
        return self.rest(deadline_s)

    def watch(self, told: str, deadline_s: float) -> str:
        """What came on the screen until it had the lines of the page, in their order."""
        lines = told.splitlines()
        return self._until(lambda said: not list(lacking(lines, said)), deadline_s, f"what the page says:\n{told}")

    def _until(self, there: Callable[[str], bool], deadline_s: float, what: str) -> str:
        end, said = time.monotonic() + deadline_s, ""
        while True:
            with contextlib.suppress(queue.Empty):
                line = self._lines.get(timeout=max(end - time.monotonic(), 0.001))
                assert line is not None, f"the shell ended before {what}\nThere was:\n{said}"
                said += line
                if there(said):
                    return said
                continue
            raise AssertionError(f"not within {deadline_s} s: {what}\nThere was:\n{said}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stdin.close()
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        self._reader.join(10)
        if self._process.stdout and not self._reader.is_alive():
            self._process.stdout.close()
