"""The Lua files keep the house form, and their headers, their code and the typed stubs say the same."""

import inspect
import re
from pathlib import Path

import pytest

from scheduler.store import library
from scheduler.store.moves import Moves

FOLDER = library.source_folder()
FUNCTIONS = sorted(path for path in FOLDER.glob("*.lua") if path.stem != "prelude")
SHARED = [FOLDER / "prelude.lua", *sorted(FOLDER.glob("shared/*.lua"))]
BY_NAME = pytest.mark.parametrize("path", FUNCTIONS, ids=lambda path: path.stem)


def header(path: Path) -> list[str]:
    lines = path.read_text().splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("--"))
    return lines[:end]


def section(path: Path, word: str) -> str:
    """A header line with the lines that continue it."""
    text = "\n".join(header(path))
    found = re.search(rf"^-- {word}\s(.*?)(?=^-- [A-Z]|\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


@BY_NAME
def test_a_function_file_begins_with_its_purpose_and_states_keys_reply_and_cost(path: Path) -> None:
    lines = header(path)
    assert re.match(rf"^-- {path.stem}: \S.*\.$", lines[0])
    assert lines[1] == "--"
    assert any(line.startswith("-- KEYS[1] P ") for line in lines)
    assert section(path, "Reply")
    assert section(path, "Cost")


@BY_NAME
def test_a_function_file_defines_the_function_of_its_name_and_no_other(path: Path) -> None:
    assert re.findall(r"^define\('([^']*)'", path.read_text(), re.MULTILINE) == [path.stem]


@BY_NAME
def test_the_header_names_the_arguments_that_the_code_takes_in_order(path: Path) -> None:
    handler = re.search(r"^define\('[^']*', function\(([^)]*)\)", path.read_text(), re.MULTILINE)
    assert handler
    taken = [name.strip() for name in handler[1].split(",") if name.strip()][1:]
    listed = re.findall(r"^-- ARGV\[(\d+|…)\] (\S+)", "\n".join(header(path)), re.MULTILINE)
    assert [index for index, _ in listed] == [
        "…" if name == "..." else str(number) for number, name in enumerate(taken, 1)
    ]
    assert all(name in {taken[number], {"id": path.stem.split("_")[0]}.get(taken[number])} or taken[number] == "..."
               for number, (_, name) in enumerate(listed))  # fmt: skip
    limit = re.search(r"^end(?:, \{[^}]*\})?(?:, (\d+))?\)$", path.read_text(), re.MULTILINE)
    assert limit
    assert limit[1] == (None if "..." in taken else str(len(taken))), "the number of arguments that define checks"


@BY_NAME
def test_the_header_names_every_word_that_the_code_replies(path: Path) -> None:
    code = path.read_text().removeprefix("\n".join(header(path)))
    words = set(re.findall(r"\breply\('(\w+)'", code))
    assert words <= set(re.findall(r"\w+", section(path, "Reply")))


@BY_NAME
def test_a_typed_stub_has_the_same_name(path: Path) -> None:
    if path.stem == "library_read":
        assert "fleet1_library_read" in inspect.getsource(library.check_library)
    else:
        assert inspect.iscoroutinefunction(getattr(Moves, path.stem))


def test_every_stub_has_a_file() -> None:
    stubs = {name for name, _ in inspect.getmembers(Moves, inspect.iscoroutinefunction) if name[0] != "_"}
    assert stubs == {path.stem for path in FUNCTIONS} - {"library_read"} | {"job_take"}


def test_every_shared_file_is_part_of_the_library() -> None:
    joined = {name for _, name in library.read_library().starts}
    assert joined == {f"lua/{path.relative_to(FOLDER)}" for path in [*FUNCTIONS, *SHARED]}


@pytest.mark.parametrize(
    ("path", "most"), [(path, 80) for path in FUNCTIONS] + [(path, 200) for path in SHARED],
    ids=lambda value: value.stem if isinstance(value, Path) else str(value),
)  # fmt: skip
def test_a_file_is_short(path: Path, most: int) -> None:
    lines = path.read_text().splitlines()
    assert 5 <= len(lines) <= most
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("path", SHARED, ids=lambda path: path.stem)
def test_a_shared_file_says_what_it_owns(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#!")]
    assert re.match(rf"^-- {path.stem}: \S.*[.:]$", lines[0])
