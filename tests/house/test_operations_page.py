"""docs/operations.md: each section with commands has a test that plays them."""

import re
from pathlib import Path

from tests.operations.runbook import PAGE, lines_of

ROOT = Path(__file__).parents[2]
HEADINGS = re.findall(r"^#{2,} .+$", PAGE.read_text("utf-8"), re.MULTILINE)


def test_each_section_with_commands_is_played_by_a_test() -> None:
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests" / "operations").glob("test_*.py"))
    with_commands = [heading for heading in HEADINGS if lines_of(heading)]
    assert len(with_commands) >= 12
    opened = set(re.findall(r'\b(?:open_book|stage)\("(#+ [^"]+)"', tests))
    assert [heading for heading in with_commands if heading not in opened] == []


def test_no_command_is_outside_of_the_sections_that_are_played() -> None:
    """An indented or unusual block would be passed over in silence."""
    blocks = re.findall(r"^ *```(\w*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert set(blocks) <= {"sh", ""}
    lines = [line for heading in HEADINGS for line in lines_of(heading)]
    written = re.findall(r"^ *```sh\n(.*?)^ *```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(lines) == sum(block.count("\n") for block in written)
