"""docs/comparison.md: each project has its row, its paragraph and sources, and first comes when not to use this."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "comparison.md").read_text("utf-8")
OTHERS = {"LiveKit", "LiteLLM", "Ray Serve", "Nomad", "Celery", "Kubernetes"}


def test_each_project_has_a_row_and_a_paragraph_with_sources_and_both_sides() -> None:
    rows = re.findall(r"^\| ([^|]+?) \|", PAGE.partition("## In one table")[2], re.MULTILINE)
    paragraphs = dict(
        re.findall(
            r"^\*\*([^*]+)\.\*\* (.+?)(?=\n\n|\Z)", PAGE.partition("## One by one")[2], re.MULTILINE | re.DOTALL
        )
    )
    assert len(paragraphs) == len(OTHERS)
    for other in OTHERS:
        assert any(row.startswith(other) for row in rows), other
        (text,) = [text for name, text in paragraphs.items() if name.startswith(other)]
        assert len(re.findall(r"\]\(https://", text)) >= 3, f"{other}: what is said of it needs its source"
        assert "*Better" in text, other
        assert "*We*" in text, other


def test_it_says_when_not_to_use_this_before_anything_else() -> None:
    headings = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert headings == ["When not to use this", "In one table", "One by one"]
    assert PAGE.partition("## In one table")[0].count("\n- **") >= 8
    assert len({row.count("|") for row in re.findall(r"^\|.+\|$", PAGE, re.MULTILINE)}) == 1
