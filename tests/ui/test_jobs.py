"""Jobs and explanations in a real browser."""

import re

import httpx
import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import fcall, register
from tests.sharded import Shards
from tests.ui.conftest import Opened

JOB = {"requires": ["asr:zh"], "wait_ms": 60_000}


@pytest.mark.one_shard("a job that waits moves to where a slot is, which is told otherwise")
def test_a_job_is_followed_from_the_queue_to_its_end(opened: Opened, replica: str, shards: Shards) -> None:
    register(shards, "n1", "asr:zh", slots=1)
    with httpx.Client(base_url=replica) as http:
        first = http.post("/v1/jobs", json=JOB).json()["job"]
        http.post("/v1/jobs", json=JOB | {"id": "second"})
        page = opened("/ui/jobs")
        page.get_by_role("link", name="default:second").first.click()
        expect(page.get_by_role("heading", name="It waits for a slot")).to_be_visible()
        fcall(shards, "job_finish", first["id"], first["fence"], "succeeded")
        expect(page.get_by_role("heading", name="It has a slot")).to_be_visible(timeout=1_500)
        expect(page.get_by_text("job placed")).to_be_visible()
        page.get_by_role("link", name="Cancel…").click()
        page.get_by_role("button", name="Cancel the job").click()
        expect(page.get_by_role("status")).to_contain_text("the job is cancelled")
        assert http.get("/v1/jobs/default:second").json()["job"]["state"] == "cancelled"
        expect(page.get_by_role("link", name="Cancel…")).to_have_count(0)


def test_a_job_is_found_by_its_id(opened: Opened, replica: str, shards: Shards) -> None:
    register(shards, "n1", "asr:zh")
    httpx.post(f"{replica}/v1/jobs", json=JOB | {"id": "x"})
    page = opened("/ui/jobs")
    page.get_by_label("Id of a job").fill("default:x")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="default:x")).to_be_visible()


def test_a_typed_demand_is_explained_and_the_verdict_follows_the_fleet(opened: Opened, shards: Shards) -> None:
    register(shards, "n1", "asr:zh", slots=1)
    page = opened("/ui/explain")
    page.get_by_label("Capabilities").fill("asr:zh tts:en")
    page.keyboard.press("Enter")
    verdict = page.locator(".verdict")
    expect(verdict).to_have_text("impossible")
    expect(page.locator("#near")).to_have_text(re.compile(r"Nearest: n1 in pool default: lacks tts:en"))
    register(shards, "n2", "asr:zh tts:en")
    expect(verdict).to_have_text("placeable", timeout=1_500)
    fcall(shards, "node_mark", "n2", "cordon")
    expect(verdict).to_have_text("unavailable", timeout=1_500)
    expect(page.get_by_role("row", name=re.compile("n2.*cordoned"))).to_be_visible()
    page.get_by_label("Capabilities").fill("a<b")
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_role("alert")).to_contain_text("requires")


def test_services_and_languages_are_a_demand_too(opened: Opened, shards: Shards) -> None:
    register(shards, "n1", "asr:zh tts:en nmt:zh>en")
    page = opened("/ui/explain")
    for name in ("asr", "nmt", "tts"):
        page.get_by_label(name, exact=True).check()
    page.get_by_label("From").fill("zh-CN")
    page.get_by_label("To", exact=True).fill("en-US")
    page.get_by_role("button", name="Explain").click()
    expect(page.locator(".verdict")).to_have_text("placeable")
    expect(page.get_by_text("1 node can take it now.")).to_be_visible()
