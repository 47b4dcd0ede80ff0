"""Every page for everybody: axe-core finds nothing in light, in dark and on a phone, and nothing is cut off."""

import pytest
import redis

from tests.e2e.conftest import register
from tests.ui.axe import violations
from tests.ui.conftest import Opened

PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 800}
PATHS = ("/",)


@pytest.fixture
def fleet(client: redis.Redis) -> None:
    register(client, "n1", "asr:zh gpu llm:qwen3-8b")
    register(client, "n2", "asr:zh tts:en")


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize("path", PATHS)
def test_axe_finds_nothing_in_light_and_dark_and_on_a_phone(opened: Opened, path: str) -> None:
    for scheme in ("light", "dark"):
        for viewport in (DESK, PHONE):
            page = opened(path, color_scheme=scheme, viewport=viewport)
            assert violations(page) == [], (scheme, viewport)
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{path} is {wide} px too wide at {viewport['width']}"


def test_axe_would_find_something(opened: Opened) -> None:
    page = opened("/")
    page.evaluate("document.querySelector('main').innerHTML += '<input>'")
    assert any(found.startswith("label ") for found in violations(page))
