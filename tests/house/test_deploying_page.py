"""docs/deploying.md: each artefact has its row, and what a row names exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploying.md").read_text("utf-8")
# their own pages tell of the users of Redis, and of what is installed
_ELSEWHERE = {"acl", "pins"}


def test_each_folder_of_deploy_has_a_row() -> None:
    rows = re.findall(r"^\| (`.+?) \|", PAGE, re.MULTILINE)
    named = {Path(path).parts[0] for row in rows for path in re.findall(r"`([^`]+)`", row)}
    assert named == {path.name for path in (ROOT / "deploy").iterdir()} - _ELSEWHERE


def test_what_the_page_names_is_there() -> None:
    paths = re.findall(r"\b(?:tests|deploy)/[\w./-]+\b", PAGE)
    assert len(paths) > 10
    # a pattern for a shell ends where its star begins
    assert [path for path in paths if not list(ROOT.glob(f"{path}*"))] == []


def test_the_packages_of_the_page_are_those_of_the_gate() -> None:
    gate = (ROOT / ".ci" / "run").read_text("utf-8")
    (packages,) = re.findall(r"Debian's `([^`]+)`", PAGE)
    assert [package for package in packages.split() if not re.search(rf"\s{package}\s", gate)] == []
