"""A replica in this process for plain requests, and a replica of its own with a real Chromium in front of it."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright
from starlette.applications import Starlette

from scheduler.dev.process import spawn_bound, stop
from scheduler.dev.server import free_port
from tests.e2e.conftest import FLEET, wait_until
from tests.integration.http.conftest import Speaker, app_client, plain

__all__ = ["app_client", "plain"]

# Debian's; a browser that Playwright would download is not wanted.
CHROMIUM = shutil.which("chromium")
ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
Opened = Callable[..., Page]


@pytest.fixture
def speak(app_client: tuple[Starlette, httpx.AsyncClient]) -> Speaker:
    """Speaks JSON to a replica in this process; its client asks for pages."""
    app, client = app_client
    return Speaker(client, packed=False, app=app)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def replica_of(redis_url: str) -> Iterator[str]:
    """The address of a replica in a process of its own."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    port = free_port()
    process = spawn_bound([str(FLEET), "serve", "--redis-url", redis_url, "--port", str(port)], environ=environ)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: is_ready(url), "the replica is ready", 30)
        yield url
    finally:
        stop([process])


@pytest.fixture
def replica(redis_url: str) -> Iterator[str]:
    with replica_of(redis_url) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For modules without asynchronous tests: Playwright keeps a loop running while it is open."""
    if CHROMIUM is None:
        pytest.skip("no chromium on PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield running
        running.close()


@pytest.fixture
def opened(browser: Browser, replica: str) -> Iterator[Opened]:
    """Open pages of the replica; a test fails where its pages complain in the console or load anything elsewhere."""
    complaints: list[str] = []
    contexts = []

    def said(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and "status of" not in message.text:
            complaints.append(message.text)

    def asked(request: Request) -> None:
        if not request.url.startswith(replica):
            complaints.append(f"it loads {request.url}")

    def open_(path: str, *, status: int = 200, **options: Any) -> Page:
        context = browser.new_context(base_url=replica, viewport=options.pop("viewport", None), **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", asked)
        response = page.goto(path)
        assert response is not None
        assert response.status == status
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []
