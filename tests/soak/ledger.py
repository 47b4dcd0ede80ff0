"""What each process sent and what was acknowledged to it, written down at once; Redis is held against it at the end.

One line a fact, words apart by tabs. It is written before anything else is done, so that it survives the process.
Kinds: sent ids; claimed id fence; waiting id; finished id fence outcome result; cancelled id; refused id;
refused id whose claim was sent once, so that no late copy of it can have placed it.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SENT, CLAIMED, WAITING, FINISHED, CANCELLED, REFUSED, REFUSED_ONCE = "scwfxro"


class Ledger:
    """One process's book."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._told = path.with_suffix(".told")
        self.counts = Counter[str]()

    def write(self, lines: Iterable[tuple[object, ...]]) -> None:
        text = "".join("\t".join(map(str, line)) + "\n" for line in lines)
        if text:
            os.write(self._file, text.encode())

    def tell(self, *, done: bool = False) -> None:
        """Show how far it is; done: no claim or finish of this process is under way any more."""
        partial = self._told.with_suffix(".partial")
        partial.write_text(json.dumps({"done": done, "counts": self.counts}), "utf-8")
        partial.rename(self._told)


def told(path: Path) -> tuple[bool, Counter[str]]:
    """Whether the process of this ledger is done, and its counts."""
    shown = path.with_suffix(".told")
    if not shown.exists():
        return False, Counter()
    held = json.loads(shown.read_text("utf-8"))
    return held["done"], Counter(held["counts"])


@dataclass(slots=True)
class Entry:
    """What was acknowledged of one job: the highest fence, and every end, which must be one at most."""

    fence: int = 0
    ends: list[tuple[str, int, str]] = field(default_factory=list)


@dataclass
class Books:
    """All ledgers together."""

    sent: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    refused_once: set[str] = field(default_factory=set)
    known: dict[str, Entry] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)

    def _entry(self, job: str) -> Entry:
        entry = self.known.get(job)
        if entry is None:
            entry = self.known[job] = Entry()
        return entry

    def take(self, line: str) -> None:
        kind, *words = line.split("\t")
        self.kinds[kind] += 1
        if kind == SENT:
            self.sent.update(words)
        elif kind == REFUSED:
            self.refused.update(words)
        elif kind == REFUSED_ONCE:
            self.refused_once.update(words)
        elif kind == WAITING:
            self._entry(words[0])
        elif kind == CLAIMED:
            entry = self._entry(words[0])
            entry.fence = max(entry.fence, int(words[1]))
        elif kind == CANCELLED:
            self._entry(words[0]).ends.append(("cancelled", 0, ""))
        elif kind == FINISHED:
            job, fence, outcome, result = words
            entry = self._entry(job)
            entry.fence = max(entry.fence, int(fence))
            if outcome != "released":
                entry.ends.append((outcome, int(fence), result))


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            # what a kill cut short was never acknowledged to anyone
            if line.endswith("\n"):
                yield line[:-1]


def read_books(folder: Path) -> Books:
    books = Books()
    for path in sorted(folder.glob("*.ledger")):
        for line in _lines(path):
            books.take(line)
    return books
