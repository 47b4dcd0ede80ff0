"""docs/events.md names each kind of event that the functions write, with its fields."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scheduler.domain.job import JobState

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "events.md").read_text("utf-8")
# What a kind is made of where it is not spelled out.
_ENDINGS = {
    "'job_' .. ": [state.value for state in JobState if state.ended],
    "'node_' .. ": ["ready", "cordoned", "draining"],
}


def split(arguments: str) -> list[str]:
    """The arguments of a call, which may hold calls themselves."""
    found, depth = [""], 0
    for letter in arguments:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return [argument.strip() for argument in found]


def calls(source: str) -> list[list[str]]:
    """The arguments of each call of event(S, ...) or acted(S, by, ...) behind these."""
    found = []
    for match in re.finditer(r"(?<!function )\b(?:event\(S|acted\(S, by), ", source):
        at, depth = match.end(), 1
        while depth:
            depth += {"(": 1, ")": -1}.get(source[at], 0)
            at += 1
        found.append(split(source[match.end() : at - 1]))
    return found


def written() -> dict[str, set[str]]:
    """Each kind in lua/, with the fields that any call gives it."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "lua").rglob("*.lua")):
        for kind, *pairs in calls(path.read_text("utf-8")):
            if kind == "kind":  # within acted() itself
                continue
            if literal := re.fullmatch(r"'(\w+)'", kind):
                kinds = [literal[1]]
            else:
                begin = next(begin for begin in _ENDINGS if kind.startswith(begin))
                kinds = [begin[1:].partition("'")[0] + ending for ending in _ENDINGS[begin]]
            fields = {re.fullmatch(r"'(\w+)'", name)[1] for name in pairs[::2]}  # type: ignore[index]
            for name in kinds:
                found.setdefault(name, set()).update(fields)
    return found


def test_the_table_is_what_the_functions_write() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ((?:`\w+` ?)*)\|", PAGE.partition("\n## ")[0], re.MULTILINE)
    told = {kind: set(re.findall(r"\w+", fields)) for kind, fields in rows}
    assert told == written()
    assert len(rows) == len(told)


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        ("event(S, 'a', 'x', f(1, 2))", [["'a'", "'x'", "f(1, 2)"]]),
        ("event(S, 'job_' .. state,\n  'x', y)", [["'job_' .. state", "'x'", "y"]]),
        ("local function event(S, kind, ...)", []),
    ],
)
def test_calls_are_read_as_lua_reads_them(call: str, parts: list[list[str]]) -> None:
    assert calls(call) == parts


COMMANDS = sorted(line.removeprefix(".venv/bin/") for line in PAGE.splitlines() if line.startswith(".venv/bin/fleet"))


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_exist_with_their_options(line: str) -> None:
    words = line.split()[1:]
    path = [word for word in words if re.fullmatch(r"events|jobs|nodes|show|cancel", word)]
    argv = [str(Path(sys.executable).with_name("fleet")), *path, "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith(f"Usage: fleet {' '.join(path)} ")
    assert all(re.search(rf"{word}\b", done.stdout) for word in words if word.startswith("-")), done.stdout
