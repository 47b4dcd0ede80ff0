"""Every row of docs/limits.md has the number that the code has, and what it and docs/threats.md name exists."""

import importlib
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scheduler.http import wire
from scheduler.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "limits.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.partition("\n## Settings\n")[0].splitlines()
    if line.startswith("| ") and "`" in line
]
BOUNDS = ("maxItems", "maxLength", "maxProperties", "maximum")


def written(path: str, name: str) -> float:
    """A number that `local A, B = 1, 2` gives a name, or that stands behind these words."""
    text = (ROOT / path).read_text("utf-8")
    for names, values in re.findall(r"^local ([\w, ]+) = ([\d., ]+)$", text, re.MULTILINE):
        found = dict(zip(names.split(", "), values.split(", "), strict=True))
        if name in found:
            return float(found[name])
    return float(re.findall(rf"{name}\D{{1,9}}(\d+)", text)[0])


def shape(body: str, field: str) -> float:
    """The bound of a body's field, as the document says it."""
    kind = getattr(wire, body)
    field_schema: dict[str, Any] = msgspec.json.schema(kind)["$defs"][body]["properties"][field]
    options = [field_schema, *field_schema.get("anyOf", [])]
    return float(next(option[bound] for option in options for bound in BOUNDS if bound in option))


def held(reference: str) -> float:
    """The number behind a reference in the column `set in`: a setting, a name, or a file and words in it."""
    if reference.startswith("FLEET_"):
        return float(getattr(Settings(), reference.removeprefix("FLEET_").lower()))
    path, _, name = reference.partition(" ")
    if name:
        return written(path, name)
    if path.startswith("wire."):
        return shape(*path.split(".")[1:])
    module, _, name = path.rpartition(".")
    if module.rpartition(".")[2][:1].isupper():
        module, _, kind = module.rpartition(".")
        return float(getattr(getattr(importlib.import_module(module), kind)(), name))
    return float(getattr(importlib.import_module(module), name))


def test_there_are_rows() -> None:
    assert len(ROWS) >= 35
    assert all(len(row) == 5 for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_row_is_what_the_code_has_and_names_its_tests(row: list[str]) -> None:
    _, limit, where, _, tests = row
    number = re.match(r"[\d,]+", limit)
    assert number, limit
    (reference,) = re.findall(r"`([^`]+)`", where)
    assert float(number[0].replace(",", "")) == held(reference)
    assert named_in(tests)


def named_in(text: str) -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)


@pytest.mark.parametrize("page", ["limits.md", "threats.md"])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    named = named_in((ROOT / "docs" / page).read_text("utf-8"))
    assert len(named) >= 4
    for file, test in named:
        text = (ROOT / file).read_text("utf-8")
        assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), f"{file}::{test}"
