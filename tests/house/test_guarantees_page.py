"""Every row of docs/guarantees.md names tests, and each of them exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
ROWS = [
    line for line in PAGE.partition("## Faults\n")[2].partition("\n## ")[0].splitlines() if line.startswith("| ")
][1:]


def test_each_row_names_tests_that_exist() -> None:
    assert len(ROWS) >= 20
    missing: list[str] = []
    for row in ROWS:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        if not named:
            missing.append(row[:60])
        for file, test in named:
            path = ROOT / file
            if not path.is_file() or not re.search(rf"^(async )?def {test}\(", path.read_text("utf-8"), re.MULTILINE):
                missing.append(f"{file}::{test}")
    assert missing == []
