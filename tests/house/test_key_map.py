"""The key map is told in two places, to people and to the command, and both say the same."""

import re
from pathlib import Path

import pytest

from scheduler.store.schema import KEYS, row_of

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
_ROW = re.compile(r"^\| (`P.*?) \| (\w+) \| (.*) \|$", re.MULTILINE)


def test_the_page_and_the_command_have_the_same_map() -> None:
    told = _ROW.findall(PAGE.read_text("utf-8").partition("\n## Keys\n")[2].partition("\n## ")[0])
    assert [(f"`{row.pattern}`", row.kind, row.meaning) for row in KEYS] == told


@pytest.mark.parametrize(
    ("rest", "pattern"),
    [
        ("", "P"),
        (":node:n1", "P:node:<id>"),
        (":node:n1:leases", "P:node:<id>:leases"),
        (":cap:asr:zh", "P:cap:<token>"),
        (":job:acme:a", "P:job:<id>"),
        (":session:acme:a:b", "P:session:<tenant>:<id>"),
        (":orphan:n1:7:ending", "P:orphan:<node>:<incarnation>:ending"),
        (":orphan:n1:7", "P:orphan:<node>:<incarnation>"),
        (":nodes", "P:nodes"),
        (":nodes2", None),
        (":node:n1:other", None),
        (":tenant:acme:leases", "P:tenant:<tenant>:leases"),
        (":tenant:acme:other", None),
        (":tenants", "P:tenants"),
        (":rate:acme:before", "P:rate:<tenant>"),
    ],
)
def test_a_key_is_of_one_row(rest: str, pattern: str | None) -> None:
    row = row_of(rest)
    assert (None if row is None else row.pattern) == pattern
    assert sum(other.fits(rest) for other in KEYS) == (0 if pattern is None else 1)
