"""The list of nodes in a real browser: it stays smooth with a thousand of them, and keeps what a person is doing."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import fcall, register, wait_until
from tests.sharded import Shards
from tests.ui.conftest import Opened

LONG_MS = 200
_WATCH = """() => {
  window.long = [];
  new PerformanceObserver((list) => window.long.push(...list.getEntries().map((entry) => entry.duration)))
    .observe({type: "longtask", buffered: true});
  window.turns = 0;
  document.addEventListener("fleet:turn", () => window.turns++);
}"""
_LONG = """() => new Promise((done) => setTimeout(() => {
  const end = performance.now() + 300;
  while (performance.now() < end);
  done();
}))"""


def thousand(shards: Shards) -> None:
    fields = ("slots", 4, "capabilities", "asr:zh tts:en gpu llm:qwen3-8b nmt.any:zh nmt.any:en", "ttl_ms", 600_000)
    for number in range(1_000):
        node = f"node-{number:04}"
        shards.fcall("node_register", node, "endpoint", f"http://{node}", *fields)


def shake(shards: Shards, turn: int) -> None:
    """Change the load of two hundred nodes, and mark some."""
    for number in range(200):
        shards.redis.hset(shards.node(f"node-{number:04}"), "cpu", str((number * 7 + turn * 13) % 100))
    fcall(shards, "node_mark", f"node-{turn:04}", "cordon")


def long_tasks(page: Page) -> list[float]:
    found: list[float] = page.evaluate("window.long")
    return found


def live_for_a_while(opened: Opened, shards: Shards, path: str) -> float:
    """Load the page, watch it change a few times and walk through it; answers its longest task in ms."""
    page = opened(path)
    page.evaluate(_WATCH)
    for turn in range(4):
        shake(shards, turn)
        seen = page.evaluate("window.turns")
        page.wait_for_function("(seen) => window.turns > seen", arg=seen)
    longest = max(long_tasks(page), default=0.0)
    if path == "/ui/nodes":
        page.get_by_role("link", name="Next").click()
        expect(page.get_by_text("Page 2 of 10")).to_be_visible()
        page.evaluate(_WATCH)
        longest = max(longest, *long_tasks(page), 0.0)
        page.get_by_label("Part of an id").fill("099")
        page.get_by_role("button", name="Search").click()
        expect(page.locator("#found")).to_contain_text("11 nodes")
    return longest


@pytest.mark.timeout(240)
def test_a_thousand_nodes_make_no_long_task(
    opened: Opened, shards: Shards, record_property: Callable[[str, object], None]
) -> None:
    thousand(shards)
    longest: dict[str, float] = {}
    for path in ("/ui/nodes", "/ui/explain?requires=asr:zh", "/", "/ui/jobs", "/ui/pools"):
        # what is long each time is the page's doing; what is long once may be the machine's
        for _ in range(3):
            took = live_for_a_while(opened, shards, path)
            longest[path] = min(took, longest.get(path, took))
            if longest[path] <= LONG_MS:
                break
    record_property("figure", f"dashboard: longest tasks with 1,000 nodes, ms: {longest}")
    assert max(longest.values()) <= LONG_MS, longest


def test_a_long_task_would_be_noticed(opened: Opened) -> None:
    page = opened("/ui/nodes")
    page.evaluate(_WATCH)
    page.evaluate(_LONG)
    wait_until(lambda: max(long_tasks(page), default=0) > LONG_MS, "the observer tells of the task")


def test_a_row_keeps_the_focus_while_rows_come_and_go_before_it(opened: Opened, shards: Shards) -> None:
    register(shards, "n5", "asr:zh")
    page = opened("/ui/nodes")
    page.get_by_role("link", name="n5").focus()
    register(shards, "n1", "asr:zh")
    expect(page.get_by_role("link", name="n1")).to_be_visible(timeout=1_500)
    expect(page.get_by_role("link", name="n5")).to_be_focused()
    assert page.locator("tbody tr").all_inner_texts()[0].startswith("n1")


def test_what_is_typed_into_the_search_stays_while_the_page_changes(opened: Opened, shards: Shards) -> None:
    register(shards, "alpha", "asr:zh")
    page = opened("/ui/nodes")
    page.get_by_label("Part of an id").fill("bet")
    register(shards, "beta", "asr:zh")
    expect(page.get_by_role("link", name="beta")).to_be_visible(timeout=1_500)
    expect(page.get_by_label("Part of an id")).to_have_value("bet")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="alpha")).to_have_count(0)
    expect(page.get_by_role("link", name="beta")).to_be_visible()
    expect(page).to_have_url(re.compile(r"q=bet"))


@pytest.mark.parametrize("scripts", [True, False])
def test_a_node_is_drained_from_its_page_with_a_confirmation(
    opened: Opened, shards: Shards, *, scripts: bool
) -> None:
    register(shards, "n1", "asr:zh", slots=3)
    page = opened("/ui/nodes", java_script_enabled=scripts)
    page.get_by_role("link", name="n1").press("Enter")
    page.get_by_role("link", name="Drain").click()
    expect(page.get_by_role("heading", name="Drain node n1?")).to_be_visible()
    assert shards.redis.hget(shards.node("n1"), "state") == b"ready"
    page.get_by_role("link", name="Back").click()
    page.get_by_role("link", name="Drain").click()
    page.get_by_label("Seconds to finish").fill("5")
    page.get_by_role("button", name="Drain n1").press("Enter")
    expect(page.get_by_role("status")).to_have_text("Done: the node is draining now.")
    assert shards.redis.hget(shards.node("n1"), "state") == b"draining"
    page.get_by_role("link", name="Uncordon").click()
    page.get_by_role("button", name="Uncordon n1").click()
    expect(page.get_by_role("status")).to_contain_text("ready")
