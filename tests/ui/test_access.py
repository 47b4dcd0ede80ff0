"""Every page for everybody: axe-core finds nothing in light, in dark and on a phone, and nothing is cut off."""

import httpx
import pytest

from tests.e2e.conftest import fcall, register
from tests.sharded import Shards
from tests.ui.axe import violations
from tests.ui.conftest import Opened

PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 800}
LONG = "a-node-with-the-longest-name-that-anybody-may-ever-give-to-a-node"[:64]
PATHS = (
    "/",
    "/ui/nodes",
    "/ui/nodes?q=nobody",
    f"/ui/nodes/{LONG}",
    f"/ui/nodes/{LONG}/drain",
    "/ui/pools",
    "/ui/jobs",
    "/ui/jobs/default:waits",
    "/ui/jobs/default:waits/cancel",
    "/ui/explain",
    "/ui/explain?requires=asr:zh+tts:en",
    "/ui/explain?requires=-",
    "/ui/nodes/nobody",
)
_STATUS = {"/ui/explain?requires=-": 422, "/ui/nodes/nobody": 404}


@pytest.fixture
def fleet(shards: Shards, replica: str) -> None:
    """Something of everything: states, loads, labels, pools with fallbacks, jobs that run, wait and have ended."""
    every = " ".join(f"nmt:{a}{b}>en" for a in "abcdefghij" for b in "klmnopqrst")
    register(shards, LONG, f"asr:zh gpu llm:qwen3-8b {every}", slots=1)
    register(shards, "n2", "asr:zh tts:en")
    register(shards, "n3", "tts:en")
    fcall(shards, "node_mark", "n2", "cordon")
    fcall(shards, "node_mark", "n3", "drain")
    fcall(shards, "pool_put", "default", '{"selector": {"all": true}}')
    fcall(
        shards,
        "pool_put",
        "gold",
        '{"selector": {"labels": {"tier": "gold"}}, "fallback": ["default"], "tenants": ["acme"]}',
    )
    with httpx.Client(base_url=replica) as http:
        http.post(
            "/v1/jobs", json={"requires": ["asr:zh"], "wait_ms": 600_000, "timeout_ms": 600_000, "ack_ms": 600_000}
        )
        http.post("/v1/jobs", json={"requires": ["asr:zh"], "wait_ms": 600_000, "id": "waits"})
        http.post("/v1/jobs", json={"requires": ["asr:zh"]})


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize("path", PATHS)
def test_axe_finds_nothing_in_light_and_dark_and_on_a_phone(opened: Opened, path: str) -> None:
    for scheme in ("light", "dark"):
        for viewport in (DESK, PHONE):
            page = opened(path, status=_STATUS.get(path, 200), color_scheme=scheme, viewport=viewport)
            assert violations(page) == [], (scheme, viewport)
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{path} is {wide} px too wide at {viewport['width']}"


def test_axe_would_find_something(opened: Opened) -> None:
    page = opened("/")
    page.evaluate("document.querySelector('footer').innerHTML += '<input>'")
    assert any(found.startswith("label ") for found in violations(page))
