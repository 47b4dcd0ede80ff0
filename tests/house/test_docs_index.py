"""docs/README.md names every page once, by reader; docs/concepts.md shows every drawing and agrees with the code."""

import re
from pathlib import Path

from scheduler.agent import NodeConfig
from scheduler.domain.ids import NodeId, Token
from scheduler.domain.job import ACK_MS, MAX_ATTEMPTS, JobState
from scheduler.domain.reason import RefusalClass
from scheduler.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
INDEX = (DOCS / "README.md").read_text("utf-8")
CONCEPTS = (DOCS / "concepts.md").read_text("utf-8")


def test_every_page_is_in_the_index_once() -> None:
    linked = re.findall(r"^\| \[[^\]]+\]\(([\w-]+\.md)\) \| \S", INDEX, re.MULTILINE)
    assert sorted(linked) == sorted(path.name for path in DOCS.glob("*.md") if path.name != "README.md")


def test_the_index_is_by_reader() -> None:
    assert re.findall(r"^## (\w+)$", INDEX, re.MULTILINE) == ["Start", "Build", "Operate", "Understand", "Reference"]


def test_the_concepts_show_every_drawing_with_words_for_who_does_not_see_it() -> None:
    shown = {file: words for words, file in re.findall(r"!\[([^\]]*)\]\(images/([\w-]+\.svg)\)", CONCEPTS)}
    assert shown.keys() == {path.name for path in (DOCS / "images").glob("*.svg")}
    assert all(len(words) > 20 for words in shown.values())


def test_the_concepts_name_what_the_code_names() -> None:
    assert {state.value for state in JobState if not state.ended} <= set(re.findall(r"`(\w+)`", CONCEPTS))
    assert {kind.value for kind in RefusalClass} <= set(re.findall(r"`(\w+)`", CONCEPTS))
    assert (ACK_MS, MAX_ATTEMPTS, Settings().candidates, Settings().refresh_ms) == (10_000, 3, 3, 200)
    # "every second" and "three seconds"
    usual = NodeConfig(id=NodeId("n"), slots=1, capabilities=(Token("gpu"),))
    assert (usual.heartbeat_ms, usual.ttl_ms) == (1_000, 3_000)
