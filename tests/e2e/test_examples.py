"""Each example does what its README says that one should see, in less than a minute."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(page for page in (ROOT / "examples").glob("*/README.md") if page.parent.name != "nodes")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.slow


def test_there_are_four() -> None:
    assert [page.parent.name for page in PAGES] == ["gateway", "migrating", "speech", "transcode"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_an_example_shows_what_its_readme_promises(page: Path) -> None:
    text = page.read_text("utf-8")
    assert len(text.splitlines()) < 60, "at most a page"
    (_, command), (_, shown) = _BLOCK.findall(text)
    python, *arguments = shlex.split(command)
    assert python == ".venv/bin/python"
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=58, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3_000:]}\n{done.stderr[-3_000:]}"
    assert done.stderr == ""
    # the ellipsis of a line stands for anything; the lines come in this order
    rest = done.stdout
    for line in shown.splitlines():
        found = re.search(".*".join(map(re.escape, line.split("…"))), rest)
        assert found, f"{line!r} is not in what follows:\n{rest}"
        rest = rest[found.end() :]
