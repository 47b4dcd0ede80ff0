"""The overview in a real browser: it is live, it can be paused, and it comes back when Redis does."""

import re
import time
from collections.abc import Callable

import httpx
import pytest
import redis
from playwright.sync_api import Browser, expect

from scheduler.dev.server import EmbeddedServer
from scheduler.store.library import read_library
from tests.e2e.conftest import fcall, register
from tests.sharded import Shards
from tests.ui.conftest import Opened, replica_of

SECOND_MS = 1_000


def within_a_second(act: Callable[[], object], shows: Callable[[float], object]) -> float:
    """Do it, and wait for at most a second until the page shows it; answers the seconds."""
    began = time.monotonic()
    act()
    shows(SECOND_MS)
    return time.monotonic() - began


def test_what_changes_is_shown_within_a_second(
    opened: Opened, replica: str, shards: Shards, record_property: Callable[[str, object], None]
) -> None:
    register(shards, "n1", "asr:zh", slots=10)
    page = opened("/")
    ready = page.locator("li", has_text="ready nodes").locator("b")
    expect(ready).to_have_text("1")
    took = [
        within_a_second(
            lambda: register(shards, "n2", "asr:zh"), lambda ms: expect(ready).to_have_text("2", timeout=ms)
        ),
        within_a_second(
            lambda: fcall(shards, "node_mark", "n2", "cordon"),
            lambda ms: expect(page.get_by_role("row", name=re.compile("n2.*cordoned"))).to_be_visible(timeout=ms),
        ),
        within_a_second(
            lambda: httpx.post(f"{replica}/v1/jobs", json={"requires": ["asr:zh"]}),
            lambda ms: expect(page.locator("li", has_text="placements/s")).to_contain_text("1 in all", timeout=ms),
        ),
        within_a_second(
            lambda: httpx.post(f"{replica}/v1/jobs", json={"requires": ["tts:xx"]}),
            lambda ms: expect(page.get_by_role("row", name=re.compile("missing capability"))).to_be_visible(
                timeout=ms
            ),
        ),
    ]
    record_property("figure", f"dashboard: changes were shown after {', '.join(f'{s:.2f}' for s in took)} s")


def test_a_paused_page_stands_still_and_goes_on_where_it_is_told_to(opened: Opened, shards: Shards) -> None:
    page = opened("/")
    page.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#live")).to_have_text("Paused")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    register(shards, "n1", "asr:zh")
    with pytest.raises(AssertionError):
        expect(page.locator("li", has_text="ready nodes").locator("b")).to_have_text("1", timeout=1_500)
    assert asked == []
    page.keyboard.press("Enter")
    expect(page.locator("li", has_text="ready nodes").locator("b")).to_have_text("1", timeout=1_500)
    # what a person had chosen stays chosen while the page changes around it
    expect(page.locator("#pause")).to_be_focused()


def test_time_lines_are_drawn_from_the_replicas_own_course(opened: Opened) -> None:
    page = opened("/")
    for name in ("rates", "latency"):
        expect(page.locator(f"[data-chart={name}] canvas")).to_be_visible(timeout=15_000)


def test_without_scripts_the_page_is_whole_and_renews_itself(opened: Opened, shards: Shards) -> None:
    register(shards, "n1", "asr:zh")
    page = opened("/", java_script_enabled=False)
    expect(page.get_by_role("heading", name="Refusals by reason")).to_be_visible()
    expect(page.locator("#pause")).to_be_hidden()
    register(shards, "n2", "asr:zh")
    expect(page.locator("li", has_text="ready nodes").locator("b")).to_have_text("2", timeout=15_000)


def test_a_page_tells_that_redis_is_away_and_comes_back_by_itself(
    browser: Browser, fresh_server: Callable[..., EmbeddedServer]
) -> None:
    server = fresh_server("--appendonly", "yes")
    with redis.Redis(port=server.port) as client:
        client.execute_command("FUNCTION", "LOAD", read_library().code)
        register(Shards(client), "n1", "asr:zh")
    with replica_of(server.url) as url, browser.new_context() as context:
        pages = [context.new_page() for _ in range(2)]
        for page, path in zip(pages, ("/", "/ui/nodes"), strict=True):
            page.goto(url + path)
            expect(page.locator("#live")).to_have_text("Live")
        server.kill()
        for page in pages:
            expect(page.get_by_role("alert").first).to_contain_text("This replica cannot place jobs", timeout=15_000)
            expect(page.locator("#live")).to_have_text("Trouble")
        server.start()
        for page in pages:
            expect(page.get_by_role("alert")).to_have_count(0, timeout=15_000)
            expect(page.locator("#live")).to_have_text("Live")
        expect(pages[1].get_by_role("link", name="n1")).to_be_visible()
